# tests/golden: our own spelling of each chat format, short and without tools.
"""TEMPLATES: format -> Jinja text, one line each. They are recognised as the published ones are."""

H = "'<|start_header_id|>' + "
E = " + '<|end_header_id|>\\n\\n' + "
LLAMA_TURNS = "{% for m in messages[SKIP:] %}{{ " + H + "m.role" + E + "m.content | trim + '<|eot_id|>' }}{% endfor %}"
LLAMA_PROMPT = "{{ " + H + "'assistant'" + E + "'' }}"
ASKED = "{% if add_generation_prompt %}PROMPT{% endif %}"
LLAMA_31 = (
    "{{ bos_token }}{% set first = 1 if messages[0].role == 'system' else 0 %}{{ " + H + "'system'" + E
    + "'Cutting Knowledge Date: December 2023\\nToday Date: 26 Jul 2024\\n\\n' }}"
    "{% if first == 1 %}{{ messages[0].content | trim }}{% endif %}{{ '<|eot_id|>' }}"
)
CHATML = (
    "{% if SYSTEM and messages[0].role != 'system' %}{{ '<|im_start|>system\\n' + SYSTEM + '<|im_end|>\\n' }}"
    "{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}" + ASKED.replace("PROMPT", "{{ '<|im_start|>assistant\\n' }}")
)
QWEN_3 = (
    "{% set ns = namespace(query=messages|length - 1, found=false) %}{% for m in messages | reverse %}"
    "{% if not ns.found and m.role == 'user' and not (m.content.startswith('<tool_response>')"
    " and m.content.endswith('</tool_response>')) %}{% set ns.found = true %}"
    "{% set ns.query = messages|length - loop.index %}{% endif %}{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' }}{% set parts = m.content.split('</think>') %}"
    "{% if m.role != 'assistant' %}{{ m.content }}{% else %}"
    "{% set thought = parts[0].rstrip('\\n').split('<think>')[-1].strip('\\n') if parts|length > 1 else '' %}"
    "{% set said = parts[-1].lstrip('\\n') if parts|length > 1 else m.content %}"
    "{% if loop.index0 > ns.query and (loop.last or thought) %}"
    "{{ '<think>\\n' + thought + '\\n</think>\\n\\n' + said.lstrip('\\n') }}{% else %}{{ said }}{% endif %}"
    "{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}" + ASKED.replace("PROMPT", "{{ '<|im_start|>assistant\\n' }}")
)
TURNS = (  # what every template with strict turns begins with
    "{% for m in TURNS %}{% if m.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}{% endfor %}{{ bos_token }}"
)
MISTRAL = TURNS.replace("TURNS", "messages") + (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ m.content + eos_token }}AFTER{% endif %}{% endfor %}"
)
NEMO = "{% set first = 1 if messages[0].role == 'system' else 0 %}" + TURNS.replace("TURNS", "messages[first:]") + (
    "{% for m in messages[first:] %}{% if m.role == 'assistant' %}{{ m.content + eos_token }}{% else %}"
    "{{ '[INST]' }}{% if loop.last and first == 1 %}{{ messages[0].content + '\\n\\n' }}{% endif %}"
    "{{ m.content + '[/INST]' }}{% endif %}{% endfor %}"
)
GEMMA = TURNS.replace("TURNS", "messages").replace(  # between the user's turns stands anything else
    "m.role != ('user' if loop.index0 % 2 == 0 else 'assistant')", "(m.role == 'user') != (loop.index0 % 2 == 0)"
) + (
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n'"
    " + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
    + ASKED.replace("PROMPT", "{{ '<start_of_turn>model\\n' }}")
)
PHI_3 = (
    "{% for m in messages %}{% if m.role != 'system' or WHEN %}{{ '<|' + m.role + '|>\\n' + m.content +"
    " '<|end|>\\n' }}{% endif %}{% endfor %}{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}"
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TEMPLATES = {
    "llama-3": "{{ bos_token }}" + LLAMA_TURNS.replace("SKIP", "") + ASKED.replace("PROMPT", LLAMA_PROMPT),
    "llama-3 (first release)": "{{ bos_token }}" + LLAMA_TURNS.replace("SKIP", "") + LLAMA_PROMPT,
    "llama-3.1": LLAMA_31 + LLAMA_TURNS.replace("SKIP", "first") + ASKED.replace("PROMPT", LLAMA_PROMPT),
    "chatml": CHATML.replace("SYSTEM", "''"),
    "qwen2": CHATML.replace("SYSTEM", "'You are a helpful assistant.'"),
    "qwen2.5": CHATML.replace("SYSTEM", f"'{QWEN}'"),
    "qwen3": QWEN_3,
    "mistral": MISTRAL.replace("AFTER", ""),
    "mistral (spaced)": MISTRAL.replace("AFTER", "{{ ' ' }}"),
    "mistral-nemo": NEMO,
    "gemma": GEMMA,
    "phi-3": PHI_3.replace("WHEN", "true"),
    "phi-3.5": PHI_3.replace("WHEN", "m.content"),
}
