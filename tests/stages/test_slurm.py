"""Settings as a user writes them; jobs on a Slurm without accounting, whose programs are stood in for by scripts."""

import os
import subprocess

import pytest
import submitit

from pipeline.errors import UserError
from stages.grid import Command, executor
from stages.slurm import setting


@pytest.mark.parametrize(
    "text, value",
    [
        ("gpus_per_node=1", 1),
        ("mem_gb=1.5", 1.5),
        ("slurm_exclusive=true", True),
        ("slurm_partition=on", "on"),  # to YAML 1.1 these are true, 83, 90
        ("slurm_account=0123", "0123"),
        ("slurm_comment=1:30", "1:30"),
        ("slurm_comment=a=b", "a=b"),
        ("slurm_constraint=[a", "[a"),
        ("slurm_setup=[module load cuda, export N=010]", ["module load cuda", "export N=010"]),
        ("slurm_additional_parameters={time-min: 12:00:00}", {"time-min": "12:00:00"}),
        ("timeout_min=600", 600),
        ("slurm_time=12:00:00", 720),
        ("slurm_time=04:00:00", 240),
        ("slurm_time=90", 90),
        ("slurm_time=90:01", 91),
        ("slurm_time=2-12", 60 * 60),
        ("slurm_time=1-01:30", 24 * 60 + 90),
        ("slurm_time=1-00:00:30", 24 * 60 + 1),
    ],
)
def test_a_setting_is_what_its_user_wrote(text, value):
    key, found = setting(text)
    assert key == text.partition("=")[0] and found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["gpus_per_node", "slurm_partition=", "=1"])
def test_a_setting_without_key_or_value_is_refused(text):
    with pytest.raises(UserError, match=f"--set {text}: expected KEY=VALUE"):
        setting(text)


@pytest.mark.parametrize("value", ["noon", "-1", "0", "0-00:00", "1:2:3:4", "1:", "1.5"])
def test_a_time_that_is_none_is_refused(value):
    with pytest.raises(UserError, match=f"--set slurm_time={value}: expected minutes"):
        setting(f"slurm_time={value}")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for Slurm's programs; `squeue` prints the file `queue` and fails where there is none."""
    scripts = {
        "srun": "exit 1",
        "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
        "sbatch": "echo Submitted batch job 7",
        "squeue": f'[ -z "$SQUEUE_PARTITION" ] || exit 0; cat {tmp_path}/queue',
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_PARTITION", "another")  # a user's own filter must not hide jobs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 0)  # it waits for slow file systems
    return tmp_path


def submitted(*settings):
    return executor("slurm", list(settings)).submit(Command("true", ".", ".", "cell", None, None))


def test_the_limit_of_time_is_what_slurm_gets_and_submitit_reckons_with(slurm):
    job = submitted("slurm_time=12:00:00", "slurm_partition=gpu")
    script = job.paths.submission_file.read_text()
    assert "#SBATCH --time=720\n" in script and "#SBATCH --partition=gpu\n" in script
    assert job.submission()._timeout_min == 720  # text would end the job in a TypeError when its time is up


@pytest.mark.parametrize("queue", ["7 FAILED\n", "6 RUNNING\n7 OUT_OF_MEMORY\n", "7 CANCELLED\n", "7 TIMEOUT\n", ""])
def test_a_job_that_ended_without_a_result_has_failed(slurm, queue):
    job = submitted()
    (slurm / "queue").write_text(queue)
    assert job.done(force_check=True)
    assert isinstance(job.exception(), submitit.core.utils.UncompletedJobError)


@pytest.mark.parametrize("state", ["PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUE_HOLD", "COMPLETING"])
def test_a_job_that_may_still_end_well_is_waited_for(slurm, state):
    job = submitted()
    (slurm / "queue").write_text(f"7 {state}\n")
    assert not job.done(force_check=True)


def test_a_job_is_waited_for_while_slurm_does_not_answer(slurm):
    job = submitted()
    assert not job.done(force_check=True)


def test_a_stage_that_a_signal_ended_leaves_the_word_to_slurm(tmp_path):
    """Slurm has queued the job again, perhaps: a result would say that the cell has failed."""

    def run(script):
        Command(script, str(tmp_path), str(tmp_path), "cell", None, None)()

    run("true")
    run("kill -USR2 $$")  # Slurm's warning reaches all processes; it is submitit that acts on it
    with pytest.raises(subprocess.CalledProcessError):
        run("false")
    for script in ("kill -TERM $$", "sh -c 'exit 143'\ntrue", "sh -c 'kill -KILL $$'"):
        with pytest.raises(SystemExit, match="a signal ended the stage"):
            run(script)
