"""Runs a compliance job with xdk, as xdk's users do, and prints the returned values as JSON.

usage: xdk_client.py URL TOKEN PROFILE TYPE IDS

xdk has no calls for uploads and downloads. For the API's host, its users send these requests with xdk's session, which
adds the token. For the storage host, which accepts no token, they use the library requests. So does this script.
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


output = {"empty": listed(), "count": jobs.get_jobs(type=job_type).meta.result_count}
job = jobs.create_jobs(body=new, compliance_job_fields=FIELDS).data
output["created"] = job.model_dump(exclude_none=True)
output["conflict"] = refusal(jobs.create_jobs, body=new)
output["got"] = got(job.id).model_dump(exclude_none=True)
output["listed"] = listed(status="created", compliance_job_fields=FIELDS)

bytes_client, media_type = (client.session, "application/octet-stream")
if profile == "gcs":
    bytes_client, media_type = (requests, "text/plain")
bytes_client.put(job.upload_url, data=ids, headers={"Content-Type": media_type}).raise_for_status()
while (job := got(job.id)).status == "in_progress":
    pass
output["complete"] = job.model_dump(exclude_none=True)
output["listed complete"] = listed(status="complete", compliance_job_fields=FIELDS)
result = bytes_client.get(job.download_url)
result.raise_for_status()
output["result"] = result.text

output["unknown"] = refusal(jobs.get_jobs_by_id, id="1")
output["filter"] = refusal(jobs.get_jobs, type=job_type, status="expired")
stranger = Client(base_url=url, bearer_token="nobody").compliance
output["stranger"] = refusal(stranger.get_jobs, type=job_type)
print(json.dumps(output))
