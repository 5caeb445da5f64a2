"""Has tweepy do what its users do with compliance jobs, and writes what it returns as JSON.

tweepy_client.py URL TOKEN TYPE IDS. Tweepy knows no URL but the API's own, so its session is given an adapter that
sends there. Bytes are none of its business: its users send and fetch them with requests, and so does this.
"""

import json
import sys

import requests
import tweepy

API = "https://api.twitter.com"


class ServiceAdapter(requests.adapters.HTTPAdapter):
    def send(self, request, **options):
        request.url = url + request.url.removeprefix(API)
        return super().send(request, **options)


def client_with(token):
    client = tweepy.Client(token)
    client.session.mount(API, ServiceAdapter())
    return client


def refusal(call, *arguments, **parameters):
    try:
        call(*arguments, **parameters)
    except tweepy.HTTPException as error:
        return [type(error).__name__, error.response.status_code, *error.api_messages]
    return None


url, token, job_type, ids = sys.argv[1:]
client = client_with(token)
said = {"empty": client.get_compliance_jobs(job_type)._asdict()}
job = client.create_compliance_job(job_type, name="by tweepy").data
said["created"] = job
said["conflict"] = refusal(client.create_compliance_job, job_type)
said["got"] = client.get_compliance_job(job["id"]).data
said["listed"] = client.get_compliance_jobs(job_type, status="created").data

bearer = {"Authorization": f"Bearer {token}"}
requests.put(job["upload_url"], ids, headers={**bearer, "Content-Type": "text/plain"}).raise_for_status()
while (job := client.get_compliance_job(int(job["id"])).data)["status"] == "in_progress":
    pass
said["complete"] = job
said["listed complete"] = client.get_compliance_jobs(job_type, status="complete").data
said["result"] = requests.get(job["download_url"], headers=bearer).text

said["unknown"] = refusal(client.get_compliance_job, 1)
said["filter"] = refusal(client.get_compliance_jobs, job_type, status="expired")
said["stranger"] = refusal(client_with("nobody").get_compliance_jobs, job_type)
said["resumable"] = refusal(client.create_compliance_job, job_type, resumable=True)
print(json.dumps(said))
