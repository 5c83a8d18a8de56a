# tests/golden/golden_tools: every golden there is, by name.
from .attention_models import ATTENTION
from .first_models import FIRST
from .hybrid_models import HYBRID
from .variants import VARIANTS

FAMILIES = {**FIRST, **ATTENTION, **HYBRID, **VARIANTS}
