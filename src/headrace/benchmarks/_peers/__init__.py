"""Other ways to make a U-Net cheaper, behind one protocol, to compare with in one run and one loop."""

from headrace.benchmarks._peers.attention_broadcast import AttentionBroadcast
from headrace.benchmarks._peers.deep_cache import DeepCache
from headrace.benchmarks._peers.faster_diffusion import FasterDiffusion
from headrace.benchmarks._peers.few_steps import FewerSteps
from headrace.benchmarks._peers.peer import Peer, Uncached
from headrace.benchmarks._peers.sampling import sample
from headrace.benchmarks._peers.t_gate import TGate

__all__ = ["AttentionBroadcast", "DeepCache", "FasterDiffusion", "FewerSteps", "Peer", "TGate", "Uncached", "sample"]
