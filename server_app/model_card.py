"""The model card that lies in every saved adapter: what it is, and where its record stands."""

from strategies.settings import RunSettings


def model_card(
    settings: RunSettings,
    *,
    base_model: str,
    run: str,
    task: bytes,
    round_number: int,
    adapter_hash: bytes,
) -> str:
    """Return the text of an adapter's ``README.md``, in the Hub's format."""
    organizations = "\n".join(f"- {name}" for name in settings.organization_names)
    return f"""---
base_model: {base_model}
library_name: peft
tags:
- lora
- federated-learning
---

# Global adapter after round {round_number} of run {run}

Trained by Foedus under the aggregation rule `{settings.aggregation}` on the base model
`{base_model}`, quantized as `{settings.quantization}`.

| | |
|---|---|
| round | {round_number} |
| canonical hash | `0x{adapter_hash.hex()}` |
| task on chain | `0x{task.hex()}` |
| rank, alpha | {settings.rank}, {settings.alpha:g} |

Organizations invited:

{organizations}

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{base_model}")
model = PeftModel.from_pretrained(base, "THIS FOLDER")
```
"""
