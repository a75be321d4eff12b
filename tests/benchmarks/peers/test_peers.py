"""What holds for every peer: off, it is the plain network; detached, nothing of it is left; on, it changes pictures."""

import sys

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from headrace.benchmarks._peers import (
    AttentionBroadcast,
    DeepCache,
    FasterDiffusion,
    FewerSteps,
    TGate,
    Uncached,
    sample,
)
from headrace.errors import HeadraceError, PlanError
from headrace.plan.reference import run, trajectory
from headrace.plan.trace import trace

pytest.importorskip("DeepCache", reason="the extra 'peers' is not installed")
pytest.importorskip("tgate.tgate_utils", reason="the extra 'peers' is not installed")

OFF = [DeepCache(interval=1), TGate(gate=99), AttentionBroadcast(1, 1, (0, 1000)), FasterDiffusion(1), FewerSteps(1.0)]
ON = [
    DeepCache(interval=3, branch=1),
    DeepCache(interval=2, branch=4, centre=3),
    TGate(gate=3),
    TGate(gate=6, interval=3, warm_up=1),
    AttentionBroadcast(2, 3, (0, 1000)),
    FasterDiffusion(),
    FasterDiffusion(interval=3),
]


def apart(value, expected):
    """Largest difference over the largest value expected."""
    return float((value - expected).abs().max() / expected.abs().max())


@pytest.fixture
def plain(network, plan, inputs):
    return sample(Uncached(), network, plan, *inputs)


def test_the_uncached_network_is_what_the_reference_executor_gives(network, plan, inputs, plain):
    latents, text = inputs
    half = len(latents)

    def branch(states):
        def evaluate(x, timestep):
            with torch.inference_mode():
                return network(torch.from_numpy(x), timestep, states).sample.numpy()

        return evaluate

    expected = run(plan, branch(text[:half]), latents.numpy(), lambda: None, branch(text[half:]))
    assert apart(plain, torch.from_numpy(expected)) < 1e-5


@pytest.mark.parametrize("peer", OFF, ids=lambda peer: peer.name)
def test_a_peer_that_saves_nothing_equals_the_plain_network(peer, network, plan, inputs, plain):
    assert apart(sample(peer, network, plan, *inputs), plain) < 1e-5


@pytest.mark.parametrize("peer", ON, ids=lambda peer: peer.name)
def test_a_peer_that_saves_gives_other_finite_pictures_and_the_same_ones_again(peer, network, plan, inputs, plain):
    first = sample(peer, network, plan, *inputs)
    assert torch.isfinite(first).all()
    assert apart(first, plain) > 1e-3
    peer.attach(network, plan)  # two trajectories in one attachment: the second must not see values of the first
    try:
        for latents in (torch.flip(inputs[0], [0]), inputs[0]):
            again = _drive(peer, plan, latents, inputs[1])
    finally:
        peer.detach()
    assert torch.equal(again, first)


def _drive(peer, plan, latents, text):
    rows = trajectory(plan, latents, lambda: None)
    output = None
    with torch.inference_mode():
        while True:
            try:
                asked = rows.send(output)
            except StopIteration as end:
                return end.value
            output = peer(asked.row, asked.sample, asked.timestep, text)


@pytest.mark.parametrize("peer", [*OFF, *ON], ids=lambda peer: peer.name)
def test_detached_nothing_is_left_of_a_peer(peer, network, plan, inputs, plain, state_of):
    before = state_of(network)
    sample(peer, network, plan, *inputs)
    assert state_of(network) == before
    assert torch.equal(sample(Uncached(), network, plan, *inputs), plain)


def test_a_forward_of_an_instance_s_own_is_put_back(network, plan, inputs):
    attention = network.mid_block.attentions[0].transformer_blocks[0].attn1
    own = attention.forward
    attention.forward = own
    sample(TGate(gate=2), network, plan, *inputs)
    assert vars(attention)["forward"] == own


@pytest.mark.parametrize("peer", ON, ids=lambda peer: peer.name)
def test_requests_in_lockstep_do_not_see_one_another(peer, network, plan, inputs):
    latents, text = inputs
    half = len(latents)
    together = sample(peer, network, plan, latents, text)
    for index in range(half):
        alone = sample(peer, network, plan, latents[index : index + 1], text[[index, half + index]])
        assert apart(alone[0], together[index]) < 1e-5


def test_a_peer_is_detached_when_the_network_fails(network, plan, inputs, state_of):
    before = state_of(network)
    with pytest.raises(RuntimeError):
        sample(DeepCache(2), network, plan, inputs[0], inputs[1][..., :3])
    assert state_of(network) == before


def test_noise_is_drawn_for_solvers_that_want_it(network, inputs):
    noisy = trace(DDPMScheduler(), 4).with_columns(guidance=5.0)
    drawn = []

    def draw():
        drawn.append(torch.zeros_like(inputs[0]))
        return drawn[-1]

    silent = sample(Uncached(), network, noisy, *inputs, noise_source=draw)
    assert len(drawn) == int(noisy.draws.sum())
    own = sample(Uncached(), network, noisy, *inputs)
    assert apart(own, silent) > 1e-2
    assert torch.equal(own, sample(Uncached(), network, noisy, *inputs))


def test_rows_that_are_not_guided_evaluate_one_branch(network, plan, inputs, calls):
    partly = plan.with_columns(guidance=np.where(np.arange(len(plan)) < 3, 5.0, 1.0))
    counted = calls(network, "conv_in")
    sample(Uncached(), network, partly, *inputs)
    assert counted.rows["conv_in"] == [4] * 3 + [2] * (len(plan) - 3)


@pytest.mark.parametrize(
    "peer", [DeepCache(2), TGate(3), AttentionBroadcast(), FasterDiffusion(2)], ids=lambda peer: peer.name
)
def test_a_cache_refuses_a_plan_that_drops_guidance_on_the_way(peer, network, plan, inputs, state_of):
    before = state_of(network)
    with pytest.raises(PlanError):
        sample(peer, network, plan.with_columns(guidance=np.where(np.arange(len(plan)) < 3, 5.0, 1.0)), *inputs)
    assert state_of(network) == before


def test_a_peer_that_is_attached_is_not_attached_again(network, plan):
    peer = AttentionBroadcast()
    peer.attach(network, plan)
    with pytest.raises(HeadraceError):
        peer.attach(network, plan)
    peer.detach()
    peer.detach()
    with pytest.raises(HeadraceError):
        peer(0, torch.zeros(1, 4, 8, 8), 1.0, torch.zeros(2, 5, 16))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DeepCache(0),
        lambda: DeepCache(2, branch=-1),
        lambda: DeepCache(2, power=0.5),
        lambda: DeepCache(2, centre=-1),
        lambda: TGate(0),
        lambda: TGate(3, interval=0),
        lambda: TGate(3, warm_up=-1),
        lambda: AttentionBroadcast(0),
        lambda: AttentionBroadcast(2, 0),
        lambda: AttentionBroadcast(2, 2, (800, 100)),
        lambda: FasterDiffusion(0),
        lambda: FewerSteps(0.0),
        lambda: FewerSteps(1.5),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(HeadraceError):
        make()


def test_what_does_not_fit_the_network_or_the_plan_is_refused_before_anything_is_changed(network, plan, state_of):
    before = state_of(network)
    for peer in (DeepCache(2, branch=6), DeepCache(2, centre=len(plan))):
        with pytest.raises(HeadraceError):
            peer.attach(network, plan)
    with pytest.raises(HeadraceError):
        TGate(3).attach(network, plan.with_columns(guidance=1.0))
    assert state_of(network) == before


@pytest.mark.parametrize(("package", "make"), [("DeepCache", DeepCache), ("tgate.tgate_utils", lambda: TGate(5))])
def test_a_missing_package_is_an_error_with_a_remedy(package, make, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HeadraceError, match=r"headrace\[peers\]"):
        make()


def test_fewer_steps_are_a_share_of_those_wanted():
    assert FewerSteps(0.7).steps(20) == 14
    assert FewerSteps(0.01).steps(20) == 1
    assert DeepCache(3).steps(20) == 20
