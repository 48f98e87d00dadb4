"""A real SLURM on this machine: two nodes with a fake GPU each, up in about a second.

Each cluster has its own directory, ports, key and sockets, so that several live side by side. It
takes root, and the packages slurm-wlm and munge. `python -m tests.ablation.slurm.cluster COMMAND`
runs a command line with a cluster's environment, for work by hand.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.ablation.slurm import processes
from tests.ablation.slurm.processes import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")

# The intervals are as short as SLURM takes them: its own are made for hours, not for seconds.
CONF = """
ClusterName=attnlab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdSpoolDir={root}/spool.%n
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
ReturnToService=2
MinJobAge=3600
KillWait=5
SlurmdTimeout=3
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
{settings}
{nodes}
PartitionName=low Nodes=n[1-{count}] Default=YES PriorityTier=1 GraceTime=8 State=UP
PartitionName=high Nodes=n[1-{count}] PriorityTier=10 PreemptMode=OFF State=UP
"""
NODE = "NodeName=n{index} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=8000 Gres=gpu:1"


def missing() -> str:
    """Return in one line why no cluster can run here, or an empty string."""
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if os.geteuid() != 0 or not all(shutil.which(name, path=search) for name in PROGRAMS):
        return "needs root and slurm-wlm: a real SLURM is started"
    return ""


class Job(NamedTuple):
    """A job, or one task of an array, as `squeue` shows it."""

    id: str
    state: str
    node: str
    reason: str


class Cluster:
    """A running SLURM, from construction to `stop`.

    Args:
        nodes: how many nodes, named n1, n2, ...; each has one fake GPU.
        cpus: cores that each node claims to have.
        **settings: further keys of slurm.conf, such as MaxArraySize.
    """

    def __init__(self, nodes: int = 2, cpus: int = 2, **settings: object) -> None:
        # A short path: that of a socket has at most 107 characters.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.names = [f"n{index}" for index in range(1, nodes + 1)]
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin")),
            "SLURM_CONF": str(self.root / "slurm.conf"),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._cleared: set[str] = set()
        # It ends all that is left when this process is killed, by which its input closes.
        self._keeper = subprocess.Popen(
            [sys.executable, processes.__file__, str(self.root)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._write(cpus, settings)
            self._start_munge()
            self._daemon("slurmctld", "slurmctld", "-D", "-i")
            for name in self.names:
                self._daemon(name, "slurmd", "-D", "-N", name)
            self.wait_idle()
        except BaseException as error:
            for path in self.root.glob("*.out"):
                error.add_note(f"{path.name}: {path.read_text()[-1000:]}")
            self.stop()
            raise

    def __enter__(self) -> Self:
        """Return the cluster, which ends with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the cluster."""
        self.stop()

    def run(self, *command: str, timeout: float = 20.0) -> str:
        """Run a command, a client of SLURM as a rule, and return its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def submit(self, script: str, *options: str) -> str:
        """Submit the lines of a batch script and return the job's id."""
        path = self.root / f"batch-{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        logs = f"--output={self.root}/job-%j.log"
        return self.run("sbatch", "--parsable", logs, *options, str(path))

    def preempt(self, node: str, seconds: float = 0.0) -> str:
        """Submit a job of the higher partition that takes the node's GPU for some seconds."""
        return self.submit(
            f"sleep {seconds}", "--partition=high", f"--nodelist={node}", "--gres=gpu:1"
        )

    def jobs(self, *options: str) -> list[Job]:
        """Return the jobs since the last `clear`, finished ones too; an array's tasks singly."""
        lines = self.run(
            "squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N|%r", *options
        )
        jobs = (Job(*line.split("|")) for line in lines.splitlines())
        return [job for job in jobs if job.id not in self._cleared]

    def details(self, job: str) -> dict[str, str]:
        """Return what `scontrol show job` knows of a job or of `ARRAY_INDEX`."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def states(self) -> dict[str, str]:
        """Return the state of each node, such as `idle`, `mixed` or `down*`."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", "--partition=low")
        return dict(line.split() for line in lines.splitlines())

    def wait_idle(self, *names: str) -> None:
        """Wait until the named nodes, or all, are up and free."""
        wanted = set(names or self.names)

        def idle() -> bool:
            done = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%N %T", "--partition=low"],
                env=self.environment, capture_output=True, text=True, timeout=20,
            )  # fmt: skip
            return wanted <= {w.split()[0] for w in done.stdout.splitlines() if w.endswith(" idle")}

        wait_for(idle, "idle nodes")

    def clear(self) -> None:
        """Cancel what runs and waits, bring all nodes back, and forget the jobs."""
        self.run("scancel", "--full", "--signal=KILL", "--user=root")
        self.run("scancel", "--user=root")
        for name in self.names:
            if self._daemons[name].poll() is not None:
                self.start_node(name)
        self.wait_idle()
        self._cleared |= {job.id for job in self.jobs()}

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon with all that runs there, as if its power had failed.

        SLURM itself takes 12 to 26 seconds to find out, so it is told, as a site's monitor does.
        """
        self._daemons[name].kill()
        self._daemons[name].wait()
        processes.kill(self.root, f"SLURMD_NODENAME={name}")
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=power")

    def start_node(self, name: str) -> None:
        """Start the daemon of a killed node, which returns empty."""
        self._daemon(name, "slurmd", "-D", "-N", name)

    def stop(self) -> None:
        """Kill all daemons, and all that carries this cluster's environment."""
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()
        processes.clean_up(self.root)
        self._keeper.communicate()

    def _write(self, cpus: int, settings: dict[str, object]) -> None:
        first, *others = processes.free_ports(1 + len(self.names))
        nodes = [
            NODE.format(index=index, port=port, cpus=cpus) for index, port in enumerate(others, 1)
        ]
        conf = CONF.format(
            host=socket.gethostname().split(".")[0],
            port=first,
            root=self.root,
            settings="\n".join(f"{key}={value}" for key, value in settings.items()),
            nodes="\n".join(nodes),
            count=len(self.names),
        )
        (self.root / "slurm.conf").write_text(conf)
        gres = f"NodeName=n[1-{len(self.names)}] Name=gpu File=/dev/zero\n"
        (self.root / "gres.conf").write_text(gres)
        for name in ("state", "munge", *(f"spool.{name}" for name in self.names)):
            (self.root / name).mkdir()

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/socket", f"--pid-file={folder}/pid", f"--seed-file={folder}/seed",
            "--num-threads=2",
        )  # fmt: skip
        wait_for((folder / "socket").exists, "munge's socket")

    def _daemon(self, name: str, *command: str) -> None:
        # By this environment all that runs on a node is found.
        with (self.root / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                env={**self.environment, "SLURMD_NODENAME": name},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    with Cluster() as by_hand:
        subprocess.run(sys.argv[1:] or ["bash"], env=by_hand.environment)
