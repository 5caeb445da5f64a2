"""Has tweepy do what its users do with compliance jobs, and writes what it returns as JSON.

tweepy_client.py TOKEN PROFILE TYPE IDS. Bytes are none of tweepy's business: its users send and fetch them with requests,
and so does this.
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
said = {"empty": client.get_compliance_jobs(job_type)._asdict()}
job = client.create_compliance_job(job_type, name="by tweepy").data
said["created"] = job
said["conflict"] = refusal(client.create_compliance_job, job_type)
said["got"] = client.get_compliance_job(job["id"]).data
said["listed"] = client.get_compliance_jobs(job_type, status="created").data

bearer = {"Authorization": f"Bearer {token}"} if profile == "native" else {}
requests.put(job["upload_url"], ids, headers={**bearer, "Content-Type": "text/plain"}).raise_for_status()
while (job := client.get_compliance_job(int(job["id"])).data)["status"] == "in_progress":
    pass
said["complete"] = job
said["listed complete"] = client.get_compliance_jobs(job_type, status="complete").data
result = requests.get(job["download_url"], headers=bearer)
result.raise_for_status()
said["result"] = result.text

said["unknown"] = refusal(client.get_compliance_job, 1)
said["filter"] = refusal(client.get_compliance_jobs, job_type, status="expired")
said["stranger"] = refusal(tweepy.Client("nobody").get_compliance_jobs, job_type)
if profile == "native":
    said["resumable"] = refusal(client.create_compliance_job, job_type, resumable=True)
else:
    said["resumable"] = client.create_compliance_job(job_type, resumable=True).data
print(json.dumps(said))
