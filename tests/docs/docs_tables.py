"""What the pages' commands find on the scratch machine, and which of them do not run there."""

# /models/NAME: bundled models of the same family, but for Zamba2, for which the hybrid stands.
# Llama's gets the start token and the chat template that an instruct model has (START, CHAT).
MODELS = {
    "Llama-3.1-8B-Instruct": "transformer",
    "falcon-mamba-7b-instruct": "falcon-mamba",
    "Llamba-8B": "llamba",
    "Zamba2-7B": "hybrid",
}

START = {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<eos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}}}
CHAT = "chatml"  # of tests/golden/chat/expected.json

# Files that a user is told to have.
FILES = {
    "prompt.txt": "nail:29\nlight:57\n\nnail",
    "messages.json": '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]',
    "t.jsonl": '{"prompt": "a:1\\nb:2\\n\\na", "choices": [":1", ":2"], "answer": 0}\n',
}

# Words in capitals that stand for something of the user's.
SUBSTITUTIONS = [
    (r"random:DIR\b", "random:examples/zoo/transformer"),
    (r"\bMODEL_A\b", "zoo:transformer"),
    (r"\bMODEL_B\b", "zoo:mamba2"),
    (r"\bMODEL\b", "zoo:transformer"),
    (r"\bMODEL_DIR\b", "examples/zoo/transformer"),
    (r"\bRECIPIENT\b", "zoo:transformer"),
    (r"\bDONOR\b", "zoo:transformer"),
    (r"(--\S*task\S*|--knowledge|--retrieval|--against) (TASK|T2?)\b", r"\1 kv:pairs=4,n=8"),
    (r"headlens task T$", "headlens task kv:pairs=4,n=8"),
    (r"\bDIR\b", "out"),
    (r"--text S\b", "--text nail:29"),
    (r"\bRESULT\b", "out/scores.json"),
]

# (regular expression, why it is not run). The first that fits counts.
NOT_RUN = [
    (r"\.\.\.|\[[A-Z,.|-]|\[--|\| --|STEPS", "a synopsis"),
    (r"^scripts/(build|demo|test)\b", "builds everything: scripts/test runs this very test"),
    (r"^scripts/format\b", "rewrites the sources; ctest check_format runs it with --check"),
    (r"^scripts/package", "builds and packs for many minutes: docs/packaging.md has its result"),
    (r"^scripts/(fuzz|torture|tsan)\b", "minutes to hours, with a build of its own"),
    (r"^ninja\b", "builds; this test uses a build that is there"),
    (r"^build/release/tests/(core|bench)/", "unit tests and benchmarks: ctest runs the former"),
    (r"bench_peers|gpu_check|load_bench", "wants a GPU and the peers' packages"),
    (r"--device cuda", "wants a GPU"),
    (r"^scripts/certify", "wants transformers; tests/acceptance/check_families.py does the same"),
    (r"transformers import", "wants transformers and a checkpoint in a form that is not read"),
    (r"^(torchrun|mpirun|srun|sbatch)\b|\nsrun ", "wants a launcher; the cli tests start processes by hand"),
    (r"^headlens reproduce", "40 minutes; ctest cli runs each claim on fewer examples"),
    (r"check_screen\.py", "many searches with and without a screen, an hour"),
]

# Before a fragment of C++, which is built and not run: what fragments take for granted.
FRAGMENT_HEAD = """using namespace headlens;
extern const LanguageModel model, donor;
extern const Tokenizer tokenizer;
extern const Objective& objective;
extern const Tensor ids;
extern const Task task;
extern const std::unique_ptr<Objective> letters, facts;
extern const ModelConfig& config;
extern const std::vector<HeadId> circuit;
"""
