"""What schemathesis needs to know of a job's bytes: their URLs are in the answers of other endpoints.

SERVICE_URL and SERVICE_TOKEN say where the API is and who asks; SERVICE_OTHER_TOKEN is for jobs that must not take the
slot of the first App. Every second well-formed request for bytes gets the
path and the query of a job that takes it; the others stay as they were made up, and meet refusals.
"""

import itertools
import os
import urllib.parse

import requests
import schemathesis

API = os.environ["SERVICE_URL"] + "/2/compliance/jobs"
HEADERS = {"Authorization": "Bearer " + os.environ["SERVICE_TOKEN"]}
OTHER_HEADERS = {"Authorization": "Bearer " + os.environ["SERVICE_OTHER_TOKEN"]}
turns = itertools.count()
complete = {}


def jobs(headers=HEADERS, **query):
    return requests.get(API, params=query, headers=headers).json().get("data", [])


def waiting_job(headers=HEADERS, **options):
    """A job that waits for its upload, if there can be one now."""
    job = requests.post(API, json={"type": "tweets", **options}, headers=headers)
    return job.json()["data"] if job.ok else next(iter(jobs(headers, type="tweets", status="created")), None)


def complete_job():
    """A job with a result, made once."""
    if not complete:
        for job in jobs(type="users", status="created"):
            requests.delete(f"{API}/{job['id']}", headers=HEADERS)
        job = requests.post(API, json={"type": "users"}, headers=HEADERS).json()["data"]
        upload(job["upload_url"])
        while job["status"] != "complete":
            job = requests.get(f"{API}/{job['id']}", headers=HEADERS).json()["data"]
        complete.update(job)
    return complete


def upload(url):
    """The storage host takes no bearer token, and the API's own host none but that."""
    credentials = HEADERS if url.startswith(os.environ["SERVICE_URL"]) else {}
    requests.put(url, data="1\n2\n", headers={"Content-Type": "text/plain", **credentials}).raise_for_status()


def url_for(operation):
    """Where a request of this operation would succeed."""
    match operation:
        case "uploadSubmission" | "uploadObject":
            return (waiting_job() or {}).get("upload_url")
        case "beginUpload":
            return (waiting_job(OTHER_HEADERS, resumable=True) or {}).get("upload_url")
        case "cancelUpload":
            url = url_for("beginUpload")
            headers = {"Content-Type": "text/plain", "x-goog-resumable": "start"}
            begun = requests.post(url, headers=headers) if url else None
            return begun.headers.get("Location") if begun is not None else None
        case "downloadResult" | "inspectResult" | "downloadObject" | "inspectObject":
            return complete_job()["download_url"]
        case "downloadComplianceJobResults":
            return complete_job()["download_url"]
        case "uploadComplianceJobSubmission":
            return url_for("uploadSubmission")


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    operation = case.operation.definition.raw.get("operationId", "")
    if "{id}" not in case.operation.path or next(turns) % 2:
        return
    url = url_for(operation)
    parts = urllib.parse.urlsplit(url or "")
    # In the gcs profile a job's bytes are on another host than the API's own paths for bytes.
    if parts.path.split("/")[1:-2] != case.formatted_path.split("/")[1:-2]:
        return
    signed = dict(urllib.parse.parse_qsl(parts.query))
    case.path_parameters["id"] = next(part for part in parts.path.split("/") if part.isdigit() and len(part) > 1)
    if operation.endswith(("Object", "Upload")):
        case.query.clear()
        case.headers.pop("Content-Range", None)  # A signed URL takes the whole.
        case.headers.update({"x-goog-resumable": "start"} if operation == "beginUpload" else {})
    case.query.update(signed)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Leaves two kinds of failure out, and no others:

    * A range that begins beyond a result's end is well-formed and cannot be satisfied, and no description can say how
      long a result is (RFC 9110, section 15.5.17).
    * DELETE cancels a job and does not remove it: it is found as before, failed and with its error.
    """
    if failure.code == "ST202" and response.status_code == 416:
        return "Range" not in case.headers
    if failure.code == "ST301" and response.status_code == 200:
        return "error" not in response.json()["data"]
    return True
