# tests/golden: regular expressions from tokenizers in the wild, and the corners of their syntax.

WILD = [
    # GPT-2; Llama-3; Qwen-2; GPT-4o; DeepSeek; BLOOM
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
]
CORNERS = [
    r"\n|\w+|[^\w\s]",  # outside brackets \w takes ² as well, inside it does not
    r"\p{N}{1,3}+",  # in Ruby's syntax a repetition of a repetition
    r"\p{N}{2}?",  # an optional repetition
    r"x{,2}",
    r"a{|{",
    r"\p{Han}+|\p{Hiragana}",  # the script alone, not its extensions
    r"\p{Letter}+|\p{^L}",
    r"\P{^L}+",
    r"\b",
    r"\B",
    r"^.*$",
    r"(?m:a.+)",  # Ruby's m lets the dot match newlines
    r"a(?i)b|C",  # the option holds for the alternatives behind it too
    r"[a-z&&[^aeiou]]+",
    r"[^a-z&&[^aeiou]]",
    r"[\W_]+",
    r"[^\W\d]+",
    r"[^[a]b]+",
    r"[x[-a]]+|[b[c-]d]+",
    r"[[:digit:][:punct:]]+",
    r"\h+|\H",
    r"(\w)\1",
    r"(?<c>\w)\k<c>",
    r"(?#nothing)a++b|a?+",
    r"(?>ab)|(?<=a)1",
    r"\u0041|\x62|\x{1F600}",
    r"\s{2,}",
    r"[\s\S]",
    r"[]a]+",
    r"[0-9][0-9][0-9]",
    r"a*",
    r"(?=a)",
    r"\d{3}(?=(?:\d{3})*(?!\d))",
]
TEXT = (
    "I'LL don't Abc  ABC\tabc_1 12345 x² ½a aab\nxx  \r\n\n  日本、ひら 😀😀 naïve e\u0301 "
    "\u00a0\u3000a-b. {a} [x]\n\u180e\u2028end "
)
