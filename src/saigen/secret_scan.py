"""Whether a text holds a secret: known forms of keys, passwords in assignments and addresses, and
tokens that look random.

Everything that goes into a record passes here. Digests in hexadecimal, identifiers, placeholders
and references to variables are no secrets, nor is a line that says `not a secret`, unless it has
the form of a known key. Standard library alone, and Python 3.9: the image's build asks it before
anything is installed, for the names on standard input (`python secret_scan.py`).
"""

import fnmatch
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

# Names under which keys are kept, wherever they lie. Python's own modules are told by what is in
# them: `src/project/secret_sharing.py` is no key.
_KEY_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.jks",
    "*.keystore", "*.kdbx", "*.ppk", "*.gpg", "*.ovpn", "id_rsa*", "id_dsa*", "id_ecdsa*",
    "id_ed25519*", "kaggle.json", "credentials*", ".credentials*", "*credentials.json", ".netrc",
    "_netrc", ".npmrc", ".pypirc", "pip.conf", ".pgpass", ".my.cnf", ".htpasswd", ".boto", ".s3cfg",
    ".git-credentials", ".dockercfg", ".dockerconfigjson", ".vault-token", "kubeconfig", "*.tfvars",
    "*.tfstate", "service-account*", "service_account*", "serviceaccount*", "config.local",
    "secrets.*", "*.secret", "*.secrets", "*secret*.json", "*secret*.y*ml", "*secret*.toml",
    "*secret*.txt", "*token*.txt", "*password*.txt", "*password*.csv", "*api_key*.txt",
    "*apikey*.txt", "*_key.txt", ".env~", ".passwd", "accesskeys*.csv", "rootkey*.csv",
    "rclone.conf", "cookies.txt", "*firebase-adminsdk*.json", "ssh_host_*_key", "deploy_key*",
    "kaggle*.json", "*.tfvars.json", "*.pkcs12", ".renviron", "*oauth*.json",
)  # fmt: skip
_KEY_FOLDERS = {
    ".ssh",
    ".aws",
    ".gnupg",
    ".kube",
    ".docker",
    ".azure",
    ".gcloud",
    ".kaggle",
    ".huggingface",
}

_FORMS = {
    "private key": r"-----BEGIN [A-Z0-9 ]*PRIVATE[ ]KEY|PuTTY-User-Key[-]File-|AGE-SECRET-KEY[-]1",
    "AWS key": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b",
    "Google key": r"\bAIza[\w-]{35}|\bGOCSPX-[\w-]{20,}|\bya29\.[\w-]{20,}",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{30,}",
    "GitLab token": r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat)-[\w-]{20,}",
    "Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",
    "OpenAI or Anthropic key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[a-z]-[\w-]{10,}|\bxapp-\d-[\w-]{10,}",
    "webhook": r"hooks\.slack\.com/services/T\w+/\w+/\w+|discord(?:app)?\.com/api/"
    r"webhooks/\d+/[\w-]+",
    "payment key": r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{10,}",
    "registry token": r"\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{40,}|\bdckr_pat_[\w-]{20,}",
    "service token": r"\bSG\.[\w-]{16,}\.[\w-]{16,}|\bdo[opr]_v1_[0-9a-f]{40,}|\bdapi[0-9a-f]{32}"
    r"|\b\d{8,10}:AA[\w-]{32,}|\bKGAT_[0-9a-f]{20,}|\bAccountKey=[\w+/=]{40,}"
    r"|\b(?:shp(?:at|ca|pa|ss)|sbp|lsv2_(?:pt|sk))_[0-9a-f]{20,}|\b(?:key-|SK)[0-9a-f]{32}\b"
    r"|\bPMAK-[0-9a-f]{24}-[0-9a-f]{20,}|\bxkeysib-[0-9a-f]{40,}|\bNRAK-[A-Z0-9]{27}\b"
    r"|\b(?:HRKU|sdk|mob)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\bhv[sbr]\.[\w-]{24,}"
    r"|\bFlyV1 \w{2,4}_[\w+/=]{40,}|\bEAA[A-Za-z0-9]{80,}|\bATATT3[\w=-]{40,}"
    r"|\b(?:gsk|r8|lin_api|ntn|nfp|glsa|pscale_tkn)_[A-Za-z0-9]{28,}|\bfigd_[\w-]{36,}"
    r"|\b(?:nvapi|pplx|xai)-[\w-]{36,}|\bsq0[ac]tp-[\w-]{22,}|\b\w{3}[78]Q~[\w.~-]{31,}"
    r"|[?&]sig=[\w%+/-]{30,}",
    "JSON web token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "Kaggle key": r"\"key\\?\"\s*:\s*\\?\"(?P<kaggle>[0-9a-f]{32})\\?\"",
    "password in an address": r"\b[A-Za-z][\w+.-]*://[^\s/:@'\"<>{}$]*:(?P<url>[^\s/@'\"<>{}$*]+)@",
    "key in an address": r"://(?P<user>[A-Za-z0-9_-]{20,})@[\w.-]+\.[a-z]"
    r"|\botpauth://\S*?[?&]secret=(?P<otp>[A-Z2-7]{16,})",
    "login in a command": r"\b(?:curl|wget|http)\b[^\n]*?\s(?:-u|--user)[ =]?[\"']?"
    r"[^\s:\"'$]+:(?P<curl>[^\s\"'$<{]{3,})|(?:--(?:http-)?pass(?:word)?|--token)[ =][\"']?"
    r"(?P<option>(?=\S*\d)[^\s\"'$<{]{6,})",
    "cookie": r"(?i)\bcookie\b[\"']?\s*[:=,]\s*[\"']?[^\n]*?\b\w*(?:sess|sid|token|auth)\w*="
    r"(?P<cookie>[\w%+/.=-]{8,})",
    "login": r"(?i)\blogin\([^)\n]{0,80}?(?:key|token|password)\s*=\s*\\?[\"']"
    r"(?P<login>[^\s\"'\\]{8,})|\blogin\s+\S+\s+password\s+(?P<netrc>\S{6,})",
    "authorization header": r"(?i)\bauthorization\b[\"']?\s*[:=,]\s*[\"']?(?:basic|bearer|token)\s+"
    r"(?P<header>[\w+/.=-]{8,})",
}
_KEY = (
    r"(?:pass(?:word|wd|wort|phrase)|(?<![a-z])pwd|(?<=[a-z]_)pass(?![a-z_])|secret"
    r"|(?:api|access|account|private|signing|encryption|wandb)[_-]?key"
    r"|(?:api|auth|access|refresh|bearer|session|bot)[_-]?token|credentials?)"
)
_ASSIGNED = "password or key"
_NAMED = re.compile(_KEY + r"[A-Za-z0-9]{0,8}$", re.I)
_RULES = [
    *((name, re.compile(pattern, re.A)) for name, pattern in _FORMS.items()),
    # password="...", "api_key": "...", and NAME_TOKEN=... as environments are written
    (_ASSIGNED, re.compile(_KEY + r"\w{0,12}\\?[\"']?\s*[:=]\s*[brf]?\\?(?P<quote>[\"'])"
                           r"(?P<a>[^\s\"'<>{}$\\]{6,})\\?(?P=quote)", re.I | re.A)),
    (_ASSIGNED, re.compile(r"\b[A-Z][A-Z0-9_]*(?:PASSWORD|PASSWD|_PASS|SECRET|TOKEN|API_?KEY"
                           r"|ACCESS_KEY)(?:=[\"']?|\\?[\"']\]\s*=\s*\\?[\"'])(?P<b>[^\s\"'<>{}$()\[\]\\]{6,})")),
    (_ASSIGNED, re.compile(_KEY + r"\w{0,12}\s*[:=]\s*(?P<c>(?=[^\s]*\d)[^\s\"'<>{}$()\[\],.]{8,})"
                           r"(?![\w(\[.])", re.I | re.A)),
]  # fmt: skip
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x{3,}|\*+|\.{3,}|-+|your|my[_-]|some|example|placeholder|dummy|changeme|change[_-]me"
    r"|redacted|left[_ -]out|none$|null$|true$|false$|pass(?:word)?$|secret$|token$|os\.|env)"
)
_TOKEN = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_WORD = re.compile(r"[0-9a-f]{24,}|[A-Z]?[a-z]{3,}|[A-Z]{4,}|[0-9]{4,}|[-_/+=]")
_TOKEN_CHARACTERS = 128  # what is longer is data (an image in a notebook), not a key
_LINE_CHARACTERS = 1 << 20
_MARK = "left out: "
_ALLOWED = "not a secret"


class Found(NamedTuple):
    """A secret in a text."""

    line: int  # from 1
    form: str
    start: int  # in the line
    end: int

    def __str__(self) -> str:
        return f"{self.line} ({self.form})"


def named_like_a_key(path: str) -> bool:
    """Whether a file is named as keys are; such a file is never read."""
    parts = PurePosixPath(path).parts
    name = parts[-1].lower() if parts else ""
    if name.endswith((".example", ".sample", ".template", ".dist", ".py")):
        return name.startswith("credentials")
    named = any(fnmatch.fnmatchcase(name, pattern) for pattern in _KEY_NAMES)
    return named or not _KEY_FOLDERS.isdisjoint(parts[:-1])


def scan(text: str) -> list[Found]:
    """Every secret of a text, in its order."""
    if not any(rule.search(text) for _, rule in _RULES) and next(_random(text), None) is None:
        return []  # the whole text at once is quicker than its lines
    return [
        found for number, line in enumerate(text.splitlines(), 1) for found in _in(line, number)
    ]


def scan_bytes(content: bytes) -> list[Found]:
    """Every secret of a file, which need not be text."""
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return scan(content.decode("utf-16" if wide else "utf-8"))
    except UnicodeDecodeError:
        return scan(content.decode("latin-1"))


def redact(text: str) -> str:
    """A text with `<left out: FORM>` in place of each secret."""
    if not scan(text):
        return text
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        for found in reversed(_in(line, number)):
            lines[number - 1] = _cut(lines[number - 1], found)
    return "".join(lines)


def redact_value(value: Any, at: str = "") -> tuple[Any, list[str]]:
    """A JSON value with its secrets replaced, and where they stood: `arguments.2 (AWS key)`.

    A string under a key such as `password` is one, whatever it looks like.
    """
    found: list[str] = []
    if isinstance(value, dict):
        rows = {}
        for key, part in value.items():
            rows[redact(str(key))], more = redact_value(part, f"{at}.{key}" if at else str(key))
            found += more
        return rows, found
    if isinstance(value, (list, tuple)):
        parts = [redact_value(part, f"{at}.{number}") for number, part in enumerate(value)]
        return [part for part, _ in parts], [line for _, more in parts for line in more]
    if not isinstance(value, str):
        return value, []
    if _NAMED.search(at) and len(value) >= 6 and " " not in value and _is_literal(value):
        return f"<{_MARK}{_ASSIGNED}>", [f"{at} ({_ASSIGNED})"]
    return redact(value), [f"{redact(at)} ({found.form})" for found in scan(value)]


def _in(line: str, number: int) -> list[Found]:
    """The secrets of one line, none of them inside another."""
    found: list[Found] = []
    line, allowed = line[:_LINE_CHARACTERS], _ALLOWED in line
    for form, rule in _RULES:
        for match in rule.finditer(line):
            group = next((n for n, v in match.groupdict().items() if v and n != "quote"), 0)
            if not group or (_is_literal(match[group]) and not (allowed and form == _ASSIGNED)):
                found.append(Found(number, form, *match.span(group)))
    if not allowed:
        known = [(each.start, each.end) for each in found]
        found += [
            Found(number, "random token", start, end)
            for start, end in _random(line)
            if all(end <= a or b <= start for a, b in known)
        ]
    found.sort(key=lambda each: (each.start, -each.end))
    end, apart = -1, []
    for each in found:
        if each.start >= end:
            apart.append(each)
            end = each.end
    return apart


def _random(line: str) -> Iterator[tuple[int, int]]:
    """Where a line holds a token that no person and no digest in hexadecimal would spell.

    Addresses are public but for their query, and a digest says what it is.
    """
    for match in _TOKEN.finditer(line):
        whole = match[0].strip("=-_/+")
        if len(whole) > _TOKEN_CHARACTERS or not _is_random(whole):
            continue
        before = line[max(0, match.start() - 400) : match.start()]
        public = re.search(r"://[^\s?\"'<>]*$|(?:sha\d+|md5|blake\w+)[=:-]$", before, re.I)
        if not public and not re.match(r"(?:sha\d+|md5)[=-]", whole):
            yield match.span()


def _is_random(token: str) -> bool:
    """Whether a token mixes its kinds of characters as chance does; words are long runs of one."""
    if len(token) < 20 or not all(re.search(kind, token) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        return False
    outside = len(_WORD.sub("", token)) / len(token)
    counts = Counter(token).values()
    entropy = -sum(n / len(token) * math.log2(n / len(token)) for n in counts)
    return outside > 0.5 and entropy > min(4.2, 0.82 * math.log2(len(token)))


def _is_literal(text: str) -> bool:
    """Whether an assigned value may be a secret itself: no placeholder, no name of a variable."""
    if _PLACEHOLDER.match(text) or _MARK in text or len(set(text)) < 4:
        return False
    return not re.fullmatch(r"(?:/[\w.-]+)+/?|[A-Z][A-Z0-9_]+|[a-z_]+\.[a-z_.]+", text)


def _cut(line: str, found: Found) -> str:
    return f"{line[: found.start]}<{_MARK}{found.form}>{line[found.end :]}"


def main() -> int:
    """Search files named on standard input, apart by NUL; 1 if a secret is in one."""
    code = 0
    for name in sorted(filter(None, sys.stdin.buffer.read().split(b"\0"))):
        if os.path.islink(name) or not os.path.isfile(name):  # noqa: PTH113, PTH114
            continue
        with open(name, "rb") as file:  # noqa: PTH123
            found = scan_bytes(file.read(1 << 22))
        if found:
            code = 1
            print(f"{os.fsdecode(name)}:{', '.join(map(str, found[:3]))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
