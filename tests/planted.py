"""Secrets of every known form, made up when they are asked for, so that no file holds one."""

import base64
import hashlib

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def made_up(form: str, length: int, alphabet: str = LETTERS) -> str:
    """Characters that look random, the same in every run of the tests."""
    state = hashlib.shake_256(form.encode()).digest(length * 2)
    picked = [
        alphabet[(state[2 * n] * 256 + state[2 * n + 1]) % len(alphabet)] for n in range(length)
    ]
    return "".join(picked)


def _jwt() -> str:
    parts = ('{"alg":"HS256","typ":"JWT"}', '{"sub":"1234567890"}')
    head = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*head, made_up("jwt", 43)])


CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SECRETS = {
    "aws": "AKIA" + made_up("aws", 16, CAPITALS),
    "aws-secret": made_up("aws-secret", 40),
    "google": "AIza" + made_up("google", 35),
    "github": "ghp_" + made_up("github", 36),
    "github-fine": "github_pat_" + made_up("github-fine", 60),
    "hugging-face": "hf_" + made_up("hugging-face", 34),
    "openai": "sk-proj-" + made_up("openai", 48),
    "slack": "xoxb-" + made_up("slack", 12, "0123456789") + "-" + made_up("slack", 24),
    "pem": "-----BEGIN OPENSSH PRIVATE" + " KEY-----",
    "jwt": _jwt(),
    "url": "https://somebody:" + made_up("url", 12) + "@git.invalid/project.git",
    "header": "Authorization: Basic " + made_up("header", 24),
    "password": "password = '" + made_up("password", 10) + "'",
    "env": "WANDB_API_KEY=" + made_up("env", 40, "0123456789abcdef"),
    "kaggle": '{"username": "x", "key": "' + made_up("kaggle", 32, "0123456789abcdef") + '"}',
    "shopify": "shpat_" + made_up("shopify", 32, "0123456789abcdef"),
    "mailgun": "key-" + made_up("mailgun", 32, "0123456789abcdef"),
    "twilio": "SK" + made_up("twilio", 32, "0123456789abcdef"),
    "supabase": "sbp_" + made_up("supabase", 40, "0123456789abcdef"),
    "postman": "PMAK-" + made_up("a", 24, "0123456789abcdef") + "-" + made_up("b", 34, "abcdef0"),
    "vault": "hvb." + made_up("vault", 160),
    "fly": "FlyV1 fm2_" + made_up("fly", 400),
    "facebook": "EAA" + made_up("facebook", 180),
    "atlassian": "ATATT3" + made_up("atlassian", 186),
    "langsmith": "lsv2_pt_" + made_up("langsmith", 32, "0123456789abcdef"),
    "launchdarkly": "sdk-2db1ab9a-64a3-49f2-ec99-" + made_up("ld", 12, "0123456789abcdef"),
    "azure-link": "https://a.invalid/c?sp=rl&sig=" + made_up("azure-link", 40, CAPITALS) + "%3D",
    "netrc": "machine a.invalid login me password " + made_up("netrc", 12),
    "login": "login(key='" + made_up("login", 40, "0123456789abcdef") + "')",
    "database": "Server=x;Uid=sa;Pwd=7" + made_up("database", 11) + ";",
    "environ": "os.environ['HF_TOKEN'] = '" + made_up("environ", 20, CAPITALS.lower()) + "'",
    "base64": made_up("base64", 44, LETTERS + "+"),
    "curl": "curl -s -u somebody:" + made_up("curl", 12) + " https://a.invalid",
    "cookie": "Cookie: theme=dark; sessionid=" + made_up("cookie", 32, CAPITALS.lower()),
    "otp": "otpauth://totp/a:b?secret=" + made_up("otp", 32, CAPITALS) + "&issuer=a",
    "dsn": "https://" + made_up("dsn", 32, "0123456789abcdef") + "@o1.ingest.invalid/2",
    "smtp": "smtp_pass: " + made_up("smtp", 9, CAPITALS.lower()) + "7",
    "short-pass": "export DB_PASS=" + made_up("short-pass", 10),
    "connection": "AccountName=a;AccountKey=" + made_up("az", 86) + "==",
}  # fmt: skip


def core(secret: str) -> str:
    """The part of a planted text that must never be seen anywhere."""
    if "PRIVATE" in secret:
        return secret
    words = "".join(c if c.isalnum() or c in "_.+-" else " " for c in secret).split()
    return max(words, key=len)
