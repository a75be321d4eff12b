"""More than one engine: replicas on Ray Serve behind one `Service`.

Ray is imported here alone, and only when a cluster is started: `pip install 'headrace[cluster]'`.
"""

from headrace.service.cluster.cluster_service import ClusterService
from headrace.service.cluster.fleet import Fleet
from headrace.service.cluster.messages import Order, ReplicaLostError, Report, Said
from headrace.service.cluster.replica import Replica
from headrace.service.cluster.settings import ClusterSettings, read_autoscale

__all__ = [
    "ClusterService",
    "ClusterSettings",
    "Fleet",
    "Order",
    "Replica",
    "ReplicaLostError",
    "Report",
    "Said",
    "read_autoscale",
]
