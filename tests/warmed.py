"""What a fork server loads before its processes begin, so that they begin at once: the library, the data, fingerprints of code.

Nothing may be trained here: PyTorch refuses to train in a process whose parent did.
"""

import lmclib as lmc
from lmclib.runs.family import Family
from lmclib.runs.pairs import cube_between
from lmclib.store.roots import Code
from lmclib.store.store import Store

family = Family(lmc.ForkSpec(model="mlp-8"), Store("nowhere"))
family.data.pair("train")
fingerprint = Code((lmc.barrier_curve, cube_between), (family.code,)).fingerprint
