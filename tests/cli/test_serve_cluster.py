"""`headrace serve --cluster`: what its options ask for, before anything is started."""

import importlib.util

import pytest

from headrace.cli.serve_options import cluster_of
from headrace.cli.serve_run import service_of
from headrace.errors import RequestError, ServiceError
from headrace.service.cluster import ClusterService, ClusterSettings
from headrace.service.cluster.ray_local import check_installed
from headrace.service.settings import ServiceSettings


def test_one_engine_is_no_cluster():
    assert cluster_of(False, None, None, None, 60.0) is None


def test_options_of_a_cluster():
    assert cluster_of(True, 3, None, None, 60.0) == ClusterSettings(replicas=3, drain_s=60.0)
    many = cluster_of(True, None, "1:4", "10.0.0.1:6379", 30.0)
    assert many == ClusterSettings(autoscale=(1, 4), address="10.0.0.1:6379", drain_s=30.0)


@pytest.mark.parametrize("given", [(2, None, None), (None, "1:2", None), (None, None, "auto")])
def test_an_option_of_a_cluster_without_one_is_an_error(given):
    with pytest.raises(RequestError, match="--cluster"):
        cluster_of(False, *given, 60.0)


def test_a_fixed_number_and_a_range_are_one_too_many():
    with pytest.raises(ServiceError, match="one of the two"):
        cluster_of(True, 2, "1:4", None, 60.0)


def test_without_ray_the_command_that_installs_it_is_named():
    with pytest.raises(ServiceError, match=r"pip install 'headrace\[cluster\]'"):
        check_installed("a_ray_that_is_not_there")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra cluster is not installed")
def test_a_replica_has_its_gpu_to_itself():
    with pytest.raises(ServiceError, match="--device cuda"):
        service_of(ServiceSettings(model="emoji", device="cuda:1"), ClusterSettings(replicas=2))
    service = service_of(ServiceSettings(model="emoji"), ClusterSettings(replicas=2))
    assert isinstance(service, ClusterService)
    assert service.status().state == "starting"  # nothing is started before it is told to
