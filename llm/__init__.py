"""Ground floor: base model and quantization, adapters, data sets, training and evaluation loops.

Start at :mod:`llm.training`; :mod:`llm.factors` names what travels between organizations.
"""
