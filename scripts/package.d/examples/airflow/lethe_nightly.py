"""The nightly run as a DAG of Airflow 3.

It needs lethe on the worker, the Airflow connection lethe_warehouse for the database, and the variable lethe_token for the
API's token. Neither secret appears in a command line or a log.
"""

import logging
import os
import subprocess
from datetime import timedelta

import pendulum
from airflow.sdk import BaseHook, Variable, dag, task
from airflow.sdk.exceptions import AirflowFailException

PIPELINE = "/etc/lethe/nightly.yaml"
# The next try continues the run. 6: another process is working on the pipeline. 75: temporary.
TRY_AGAIN = {6, 75}

log = logging.getLogger("airflow.task")


def ended(arguments, environment):
    """Runs lethe, copies its output to the task's log, and returns its exit code."""
    with subprocess.Popen(
        ["lethe", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout:
                log.info("%s", line.rstrip())
        except BaseException:
            # The task was stopped: lethe finishes its transaction, and the next try resumes the run.
            process.terminate()
            raise
    return process.returncode


@dag(
    schedule="30 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
)
def lethe_nightly():
    @task(retries=12, retry_delay=timedelta(minutes=20))
    def run():
        environment = {
            **os.environ,
            "DATABASE_URL": BaseHook.get_connection("lethe_warehouse").get_uri(),
            "X_BEARER_TOKEN": Variable.get("lethe_token"),
        }
        code = ended(["run", PIPELINE], environment)
        if code in TRY_AGAIN or code < 0:
            raise RuntimeError(f"lethe run ended with exit code {code}; the task is retried")
        if code != 0:
            raise AirflowFailException(f"lethe run ended with exit code {code}: see its last lines for the remedy")

    run()


lethe_nightly()
