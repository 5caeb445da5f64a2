"""Hooks for schemathesis and X's published description of the API, in addition to schemathesis_hooks.

X's behaviour differs from the description. Only these two kinds of failure are ignored:

* The description has nine types of problems. None of them is for the statuses 401, 405, 409, 413, 415 and 429, which
  the API also uses. So a problem with such a status has an unknown type. The hook checks instead that the problem has
  type, title, detail and status.
* The description allows `resumable` in the request that creates a job. X responds with 400 to such a request since it
  no longer stores the files in Google Cloud Storage.
"""

import schemathesis
import schemathesis_hooks  # noqa: F401 (its hooks are needed, too)

WITHOUT_TYPE = {401, 405, 409, 413, 415, 429}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    problem = response.json() if "json" in response.headers.get("content-type", [""])[0] else {}
    if response.status_code in WITHOUT_TYPE and failure.code in {"ST108", "ST111"}:
        return not (problem.keys() >= {"type", "title", "detail"} and problem.get("status") == response.status_code)
    if response.status_code == 400 and failure.code == "ST202":
        return problem.get("parameter") != "resumable"
    return True
