"""Ground floor: base model and quantization, adapters, data sets, training and evaluation loops.

Start at :mod:`llm.training`; :mod:`llm.factors` names what travels between organizations.
"""

import logging

# On import bitsandbytes looks for a kernel of the hub's that speeds up inference, and warns where
# it is not installed; nothing here uses it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
