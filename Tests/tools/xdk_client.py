"""Has xdk do what its users do with compliance jobs, and writes what it returns as JSON.

xdk_client.py URL TOKEN PROFILE TYPE IDS. Xdk has no call for the bytes: its users send and fetch those of the API's host
with its session, which adds the token, and those of a storage host, which takes none, with requests.
"""

import json
import sys

import requests
from xdk import Client
from xdk.compliance.models import CreateJobsRequest

FIELDS = ["id", "type", "status", "name", "upload_url", "download_url", "created_at", "resumable"]


def refusal(call, *arguments, **parameters):
    try:
        call(*arguments, **parameters)
    except requests.HTTPError as error:
        return error.response.status_code
    return None


url, token, profile, job_type, ids = sys.argv[1:]
client = Client(base_url=url, bearer_token=token)
jobs = client.compliance
new = CreateJobsRequest(type=job_type, name="by xdk")


def listed(**parameters):
    return [job.model_dump(exclude_none=True) for job in jobs.get_jobs(type=job_type, **parameters).data or []]


def got(job_id):
    return jobs.get_jobs_by_id(id=job_id, compliance_job_fields=FIELDS).data


said = {"empty": listed(), "count": jobs.get_jobs(type=job_type).meta.result_count}
job = jobs.create_jobs(body=new, compliance_job_fields=FIELDS).data
said["created"] = job.model_dump(exclude_none=True)
said["conflict"] = refusal(jobs.create_jobs, body=new)
said["got"] = got(job.id).model_dump(exclude_none=True)
said["listed"] = listed(status="created", compliance_job_fields=FIELDS)

bytes_client, media_type = (client.session, "application/octet-stream")
if profile == "gcs":
    bytes_client, media_type = (requests, "text/plain")
bytes_client.put(job.upload_url, data=ids, headers={"Content-Type": media_type}).raise_for_status()
while (job := got(job.id)).status == "in_progress":
    pass
said["complete"] = job.model_dump(exclude_none=True)
said["listed complete"] = listed(status="complete", compliance_job_fields=FIELDS)
result = bytes_client.get(job.download_url)
result.raise_for_status()
said["result"] = result.text

said["unknown"] = refusal(jobs.get_jobs_by_id, id="1")
said["filter"] = refusal(jobs.get_jobs, type=job_type, status="expired")
stranger = Client(base_url=url, bearer_token="nobody").compliance
said["stranger"] = refusal(stranger.get_jobs, type=job_type)
print(json.dumps(said))
