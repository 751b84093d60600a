"""The Slurm engine where there is no Slurm: what it refuses, what it says to Slurm, and how it reads the answers."""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from tests.engines.tasks import Squares
from tests.engines.test_processes import ordered
from thinice.analysis.measurement import make_engine
from thinice.analysis.options import key_values
from thinice.engines import LocalEngine, slurm
from thinice.engines.sending import pickled, results_of, versions
from thinice.engines.slurm import SlurmEngine
from thinice.errors import InputError, MissingExtraError

CPU = torch.device("cpu")
SBATCH = """#!/bin/bash
cp $1 "$FAKE/script.sh"
[ -z "$REFUSAL" ] || { echo "sbatch: error: $REFUSAL" >&2; exit 1; }
id=$(( $(ls "$FAKE" | grep -c '^array-') + 1 )); touch "$FAKE/array-$id"
last=$(sed -nE 's/^#SBATCH --array=0-([0-9]+)%.*/\\1/p' $1)
export SLURM_JOB_ID=$id
for name in $([ -z "$last" ] && echo $id || seq -f ${id}_%g 0 $last); do
    echo "$name|RUNNING|cpu|None" > "$FAKE/state-$name"
    [ -z "$last" ] || export SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=${name#*_}
    ( bash $1; echo "$name|COMPLETED|cpu|None" > "$FAKE/state-$name" ) > /dev/null 2> "$FAKE/log-$name" &
done
echo "Submitted batch job $id"
"""
SQUEUE = "#!/bin/bash\ncat $FAKE/state-* 2> /dev/null\nexit ${SILENT:-0}\n"
SINFO = '#!/bin/bash\nprintf "$NODES"\n'


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A Slurm of shell scripts: jobs run here at once, what squeue says is in files."""
    (folder := tmp_path / "fake").mkdir()
    scripts = {"sbatch": SBATCH, "squeue": SQUEUE, "sinfo": SINFO, "scancel": "#!/bin/sh\n", "srun": "#!/bin/sh\n"}
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    monkeypatch.chdir(tmp_path)
    for name, seconds in {"LOOK": 0.02, "ASK": 0.05, "SETTLING": 0.4, "PATIENCE": 0.2}.items():
        monkeypatch.setattr(slurm, name, seconds)
    return folder


@pytest.fixture
def submitit():
    return pytest.importorskip("submitit", reason="submitit is not installed: pip install 'thinice[slurm]'")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": None}, "`engine` 'slurm' needs `workers`: how many jobs run at a time at most"),
        ({"workers": 0}, "`workers` must be a whole number of at least 1, got 0"),
        ({"device": torch.device("cuda", 1)}, "`device` cuda:1: Slurm tells each job which GPU is its own: take cuda"),
        ({"slurm": {"partitoin": "gpu"}}, "`slurm` 'partitoin' cannot be given to sbatch: did you mean partition?"),
        ({"slurm": {"output": "/etc/passwd"}}, "`slurm` 'output' cannot be given to sbatch"),
        ({"slurm": {"time": "5\ntouch x"}}, "`slurm` time='5\\ntouch x' is no value of sbatch's --time"),
        ({"slurm": {"qos": "a b"}}, "`slurm` qos='a b' is no value"),
        ({"slurm": {"qos": "'"}}, '`slurm` qos="\'" is no value'),
        ({"slurm": {"account": ""}}, "`slurm` account='' is no value"),
        ({"slurm": {"cpus_per_task": 0}}, "`slurm` cpus-per-task='0' is no value"),
        ({"jobs": "nowhere"}, "`jobs` {folder}/nowhere cannot be written: there is no folder {folder}/nowhere"),
        ({"jobs": "50%j"}, "`jobs` {folder}/50%j: Slurm reads % as the number of a job: take another folder"),
        ({"jobs": "open"}, "`jobs` {folder}/open: everybody may write there: take a folder of your own, or chmod o-w"),
    ],
)
def test_what_can_never_work_is_refused(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "50%j").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(InputError) as caught:
        SlurmEngine(**{"device": CPU, "workers": 2} | settings)
    assert str(caught.value).startswith(message.format(folder=tmp_path))


@pytest.mark.usefixtures("commands")
def test_what_is_lacking_is_told_with_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    settings = {"engine": "slurm", "device": "cpu", "workers": 2}
    with pytest.raises(
        MissingExtraError, match=r"^`engine` 'slurm' needs an extra .*: pip install 'thinice\[slurm\]'$"
    ):
        make_engine(settings)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"^`engine` 'slurm': sbatch is not found on this machine: .* --shard I/N$"):
        make_engine(settings)


def test_options_are_those_of_slurm():
    with pytest.raises(InputError, match="`engine` 'local' has no setting 'slurm'"):
        make_engine({"slurm": {"partition": "gpu"}, "device": "cpu"})
    with pytest.raises(InputError, match="`jobs` goes with the name of an engine"):
        make_engine({"engine": LocalEngine(CPU), "jobs": "."})
    with pytest.raises(InputError, match="`--slurm` must be KEY=VALUE, got 'gpu'"):
        key_values(["gpu"])


@pytest.mark.usefixtures("submitit")
def test_what_sbatch_is_told(commands, monkeypatch):
    monkeypatch.setenv("REFUSAL", "Batch job submission failed: Invalid account")
    settings = {"slurm": {"time": "2:00:00", "cpus_per_task": 3}, "jobs": commands}
    for device, gpu in {"cpu": False, "cuda": True}.items():
        engine = SlurmEngine(torch.device(device), 1, workers=2, **settings)
        with pytest.raises(
            InputError, match=r"does not take the jobs \(Batch job submission failed: Invalid account\)"
        ):
            list(engine.run(Squares(100)))
        script = (commands / "script.sh").read_text().splitlines()
        assert "#SBATCH --array=0-3%2" in script
        assert "#SBATCH --time=2:00:00" in script
        assert "#SBATCH --cpus-per-task=3" in script
        assert ("#SBATCH --gpus-per-node=1" in script) is gpu
        assert not [line for line in script if line.startswith("srun") or "wckey" in line]
    monkeypatch.chdir(commands)
    with pytest.raises(InputError):
        list(SlurmEngine(CPU, 1, workers=2).run(Squares(2)))
    assert "--time" not in (commands / "script.sh").read_text()  # that of the partition, not submitit's five minutes
    assert not list(commands.glob(".thinice-*"))


@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
def test_the_batches_are_those_of_one_process_and_a_killed_job_is_done_again(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 60.0)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.setenv(name, "7")  # of the job in which this process may run
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (killed := tmp_path / "killed").mkdir()
    (jobs := tmp_path / "jobs").mkdir()
    shards = []
    for shard in SlurmEngine(CPU, 3, workers=1, jobs=jobs).run(Squares(7, killed, "kill", fatal=(3,))):
        shards.append(shard)
        (folder,) = jobs.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert ordered(shards) == ordered(LocalEngine(CPU, 3).run(Squares(7)))
    assert len(list(killed.iterdir())) == 1
    assert sorted(path.name for path in commands.glob("array-*")) == ["array-1", "array-2"]
    assert not list(jobs.iterdir())
    assert os.environ["SLURM_ARRAY_TASK_ID"] == "7"


def test_an_error_of_the_computation_is_raised_and_what_cannot_begin_is_told(tmp_path):
    paths = SimpleNamespace(result_pickle=tmp_path / "result", stderr=tmp_path / "log")
    job = SimpleNamespace(paths=paths)
    assert slurm._end_of(job, None) == "an end that Slurm does not know any more"
    paths.stderr.write_text("first\nslurmstepd: error:  DUE TO  TIME LIMIT\n\n")
    place = slurm._Place("TIMEOUT", "cpu", "None")
    assert slurm._end_of(job, place) == "TIMEOUT (slurmstepd: error: DUE TO TIME LIMIT)"
    for result, message in {
        ("error", "Traceback\nModuleNotFoundError: No module named 'thinice'"): r"a job failed \(ModuleNotFound.*\)",
        ("success", "thinice 0.0.1, torch 1.0"): r"a node has thinice 0\.0\.1, torch 1\.0, and this process thinice ",
    }.items():
        paths.result_pickle.write_bytes(pickled(result, "engine"))
        with pytest.raises(InputError, match=message):
            slurm._end_of(job, place)
    paths.result_pickle.write_bytes(pickled(("success", versions()), "engine"))
    assert slurm._end_of(job, place).startswith("TIMEOUT")


def test_a_job_computes_what_is_not_done_for_a_process_that_lives(tmp_path, monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # those of this process stay
    (tmp_path / slurm.TASK).write_bytes(pickled(Squares(6), "engine"))
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    job = slurm._Job(tmp_path, "cpu", torch.get_num_threads(), 2, parts)
    answers = [tmp_path / name for name in ("answer-0", "answer-2", "answer-4")]

    def done():
        return [answer.exists() for answer in answers]

    assert job() == versions()
    assert done() == [False] * 3  # nobody waits for them
    array = slurm._Array("name", tmp_path)
    array.touch()
    assert slurm._Job(tmp_path, "cpu", 1, 2, parts, asked_by="thinice 0")() == versions()
    assert done() == [False] * 3
    answers[1].write_bytes(b"of the job before Slurm started it again")
    assert job() == versions()
    ((part, (squares, *_)),) = results_of(answers[2].read_bytes())
    assert (part, squares.tolist()) == (slice(4, 6), [16, 25])
    assert answers[1].read_bytes().startswith(b"of the job")
    (tmp_path / slurm.ALIVE).write_text(str(time.time() - slurm.ABANDONED - 1))
    answers[0].unlink()
    job()
    assert not answers[0].exists()
    assert not list(tmp_path.glob("unfinished-*"))


@pytest.mark.parametrize(
    ("lines", "nodes", "stuck"),
    [
        (["1_0|PENDING|cpu|Priority", "1_1|PENDING|cpu|Resources"], "up idle\n", False),
        (["1_0|PENDING|cpu|PartitionConfig"], "up idle\n", True),
        (["1_0|PENDING|cpu|QOSMaxCpuPerJobLimit"], "up idle\n", True),
        (["1_0|PENDING|cpu|JobHeldUser", "1_1|COMPLETED|cpu|None"], "up idle\n", True),
        (["1_0|REQUEUE_HOLD|cpu|None"], "up idle\n", True),
        (["1_0|RUNNING|cpu|None", "1_1|PENDING|cpu|BadConstraints"], "up idle\n", False),
        (["1_0|PENDING|cpu|Nodes required for job are DOWN, DRAINED or reserved"], "up drained\nup down*\n", True),
        (["1_0|PENDING|cpu|Nodes required for job are DOWN, DRAINED or reserved"], "up drained\nup mixed\n", False),
        (["1_0|PENDING|cpu|ReqNodeNotAvail, UnavailableNodes:a"], "up idle~\n", False),
        (["1_0|PENDING|cpu|PartitionDown"], "down idle\n", True),
        (["1_0|COMPLETED|cpu|None"], "up idle\n", False),
    ],
)
def test_jobs_that_can_never_begin_are_an_error_and_no_hang(commands, tmp_path, monkeypatch, lines, nodes, stuck):
    monkeypatch.setenv("NODES", nodes)
    array = slurm._Array("name", tmp_path)
    for number, line in enumerate(lines):
        (commands / f"state-{number}").write_text(f"{line}\n")
    assert array._ask()
    assert array._is_stuck() is stuck
    group = slurm._Group(SimpleNamespace(job_id="1_0", paths=SimpleNamespace(result_pickle=tmp_path)), [slice(0, 2)])
    if stuck:
        reason = lines[0].rpartition("|")[2].partition(",")[0]
        with pytest.raises(InputError, match=f"no job can begin: in partition cpu, Slurm gives the reason '{reason}"):
            list(array.answers([group]))


def test_a_slurm_that_does_not_answer_is_an_error_and_takes_no_job_for_dead(commands, tmp_path, monkeypatch):
    monkeypatch.setenv("SILENT", "1")
    (commands / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2; exit 1\n")
    array = slurm._Array("name", tmp_path)
    job = SimpleNamespace(
        job_id="1_0", paths=SimpleNamespace(result_pickle=tmp_path / "result", stderr=tmp_path / "log")
    )
    monkeypatch.setattr(slurm, "SETTLING", 0.05)
    with pytest.raises(InputError, match="squeue says only 'slurm_load_jobs error: Unable to contact'"):
        list(array.answers([slurm._Group(job, [slice(0, 2)])]))
    assert not array.ends


def test_a_job_is_over_when_slurm_says_so_long_enough(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(slurm, "SETTLING", 0.4)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: clock[0])
    array = slurm._Array("name", tmp_path)
    array._answered = True
    paths = SimpleNamespace(result_pickle=tmp_path / "result", stderr=tmp_path / "log")
    group = slurm._Group(SimpleNamespace(job_id="1_0", paths=paths), [slice(0, 2)])
    for state, seconds, over in [
        ("RUNNING", 1, False),
        ("NODE_FAIL", 1, False),
        ("PENDING", 99, False),  # Slurm starts it again
        ("", 0.1, False),  # forgotten
        ("", 0.1, False),
        ("FAILED", 0.4, True),
    ]:
        array._known = {"1_0": slurm._Place(state, "cpu", "None")} if state else {}
        clock[0] += seconds
        assert array._has_ended(group) is over
    assert array.ends == {"1_0": "FAILED"}


def test_jobs_submitted_anew_are_asked_for_before_they_are_taken_for_dead(commands, tmp_path, monkeypatch):
    for name, seconds in {"ASK": 1000.0, "SETTLING": 0.0}.items():
        monkeypatch.setattr(slurm, name, seconds)
    array = slurm._Array("name", tmp_path)
    array._known, array._answered = {"1_0": slurm._Place("FAILED", "cpu", "None")}, True
    (commands / "state-2").write_text("2|RUNNING|cpu|None\n")
    paths = SimpleNamespace(result_pickle=tmp_path / "result", stderr=tmp_path / "log")

    def finish(_):
        (tmp_path / "answer-0").write_bytes(pickled([(slice(0, 2), "squares")], "engine"))
        paths.result_pickle.touch()

    monkeypatch.setattr(slurm.time, "sleep", finish)
    group = slurm._Group(SimpleNamespace(job_id="2", paths=paths), [slice(0, 2)])
    assert list(array.answers([group])) == [(slice(0, 2), "squares")]
    assert not array.ends
