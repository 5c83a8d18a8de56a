# tests/golden/golden_tools: how the tiny models, their recordings and the manifest are made.
