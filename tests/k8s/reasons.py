"""What clusters say of runs that wait, word for word."""

from tests.k8s.objects import job

PENDING = job("Created")
QUEUED = {"labels": {"kueue.x-k8s.io/queue-name": "team"}}

PSS = (
    'Error creating: pods "my-run-worker-0" is forbidden: violates PodSecurity "restricted:latest": '
    'allowPrivilegeEscalation != false (container "{0}" must set securityContext.allowPrivilegeEscalation=false)'
)
QUOTA = (
    'Error creating: pods "my-run-worker-0" is forbidden: exceeded quota: gpu-quota, '
    "requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)
IN_INIT = {"name": "init-pytorch", "state": {"running": {}}}
