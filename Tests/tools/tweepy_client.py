"""Runs a compliance job with tweepy, as tweepy's users do, and prints the returned values as JSON.

usage: tweepy_client.py TOKEN PROFILE TYPE IDS

tweepy has no calls for uploads and downloads. Its users send these requests with the library requests. So does this
script.
"""

import json
import sys

import requests
import tweepy


def refusal(call, *arguments, **parameters):
    try:
        call(*arguments, **parameters)
    except tweepy.HTTPException as error:
        return [type(error).__name__, error.response.status_code, *error.api_messages]
    return None


token, profile, job_type, ids = sys.argv[1:]
client = tweepy.Client(token)
output = {"empty": client.get_compliance_jobs(job_type)._asdict()}
job = client.create_compliance_job(job_type, name="by tweepy").data
output["created"] = job
output["conflict"] = refusal(client.create_compliance_job, job_type)
output["got"] = client.get_compliance_job(job["id"]).data
output["listed"] = client.get_compliance_jobs(job_type, status="created").data

bearer = {"Authorization": f"Bearer {token}"} if profile == "native" else {}
requests.put(job["upload_url"], ids, headers={**bearer, "Content-Type": "text/plain"}).raise_for_status()
while (job := client.get_compliance_job(int(job["id"])).data)["status"] == "in_progress":
    pass
output["complete"] = job
output["listed complete"] = client.get_compliance_jobs(job_type, status="complete").data
result = requests.get(job["download_url"], headers=bearer)
result.raise_for_status()
output["result"] = result.text

output["unknown"] = refusal(client.get_compliance_job, 1)
output["filter"] = refusal(client.get_compliance_jobs, job_type, status="expired")
output["stranger"] = refusal(tweepy.Client("nobody").get_compliance_jobs, job_type)
if profile == "native":
    output["resumable"] = refusal(client.create_compliance_job, job_type, resumable=True)
else:
    output["resumable"] = client.create_compliance_job(job_type, resumable=True).data
print(json.dumps(output))
