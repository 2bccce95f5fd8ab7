"""Snakemake's executor for Kubernetes, for pods that share a volume.

The official plugin assumes that pods share nothing: it wants every file of a rule copied through an object store, and
the workflow's sources with them. A walk shares more than the files of its rules (the teacher's cache, manifests,
progress), and a volume that all pods mount holds it all. So only what the plugin says of itself is changed here, the
folder in which a job begins, and how a failed pod's log is read. Found by Snakemake where this folder is on PYTHONPATH.
"""

import os
import shlex
from dataclasses import replace

import snakemake_executor_plugin_kubernetes as official
from snakemake_executor_plugin_kubernetes import ExecutorSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    official.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(official.Executor):
    """The official executor; jobs begin in the folder that Snakemake runs in, which lies on the volume."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # it asks for the log of a container before its last restart, which these pods never have, and dies of the 400
        read = self.kubeapi.read_namespaced_pod_log
        self.kubeapi.read_namespaced_pod_log = lambda previous, **given: read(**given)

    def get_job_exec_prefix(self, job: object) -> str:
        return f"cd {shlex.quote(os.getcwd())}"
