"""Takes one job through its life with tweepy: create, list, get, upload, wait, download.

usage: tweepy_client.py BASE_URL TOKEN TYPE native|gcs ID…

Prints what tweepy made of the answers, as one JSON object. Uploads and downloads are not in tweepy; they go through
the HTTP client that it stands on.
"""

import json
import sys

import requests
import tweepy

base_url, token, job_type, profile, *ids = sys.argv[1:]


class LocalSession(requests.Session):
    """Sends what is meant for the API to the local service, and changes nothing else."""

    def request(self, method, url, **options):
        return super().request(method, url.replace("https://api.twitter.com", base_url, 1), **options)


def client_with(bearer_token):
    client = tweepy.Client(bearer_token)
    client.session = LocalSession()
    return client


client = client_with(token)
said = {"none": client.get_compliance_jobs(job_type).data}

options = {"resumable": False} if profile == "gcs" else {}
job = client.create_compliance_job(job_type, name="from tweepy", **options).data
said["created"] = job
try:
    client.create_compliance_job(job_type)
except tweepy.HTTPException as error:
    said["second"] = error.response.status_code
said["listed"] = [each["id"] for each in client.get_compliance_jobs(job_type, status="created").data]

headers = {"Authorization": f"Bearer {token}"} if profile == "native" else {}
upload = requests.put(
    job["upload_url"],
    data="".join(id + "\n" for id in ids),
    headers={"Content-Type": "text/plain", **headers},
)
upload.raise_for_status()
while (done := client.get_compliance_job(job["id"]).data)["status"] == "in_progress":
    pass
said["done"] = done["status"]
download = requests.get(job["download_url"], headers=headers)
download.raise_for_status()
said["events"] = [json.loads(line) for line in download.text.splitlines() if line]

for name, call in {
    "bad request": lambda: client.get_compliance_jobs("posts"),
    "not found": lambda: client.get_compliance_job(1),
    "unauthorized": lambda: client_with("nobody").get_compliance_job(job["id"]),
}.items():
    try:
        call()
    except tweepy.HTTPException as error:
        said[name] = type(error).__name__

print(json.dumps(said))
