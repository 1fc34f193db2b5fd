"""What keys and tokens look like: one form a kind, and how a real one is told from a placeholder.

A form begins with a cue, a text that stands in every key of its kind or before it. Cues are looked for first, by RE2;
only around one is a form compared, over a bounded length, so that text costs linear time whatever it holds. A key may
be glued to Hangul on either side: a boundary is where no ASCII letter or digit goes on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

_LEFT = r"(?:(?<![A-Za-z0-9])|(?<=[^\x00-\x7f][A-Za-z0-9])|(?<=[xX0]{4}))"
_RIGHT = r"(?:(?![A-Za-z0-9])|(?=[A-Za-z0-9][^\x00-\x7f])|(?=[xX0]{4}))"
"""Where no ASCII word goes on, or one that blanks a key out; in bytes of UTF-16 or CP949, half of a Hangul syllable may
look like a letter."""
_UUID = r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_GAP = r"[^\n:=]{0,40}?"
"""What may stand between a service's name and the word for its key."""
_ASSIGNED = r"""[\\"'\]`)]{0,4}\s{0,4}(?:=>|:=|==?|:|is|은|는|이|가)?\s{0,4}[\\"'\[`(]{0,4}(?:Bearer\s{1,2})?"""


class KeyForm(NamedTuple):
    """One kind of key.

    Attributes:
        kind: what a finding is called.
        cues: texts with which it begins; one in small letters is found in capitals too where `any_case` is set.
        pattern: the whole of it from the cue on; the group `v`, or else all of it, is the secret.
        any_case: whether the cue is a word of any case, such as a variable's name.
        strict: whether the secret must look drawn by lot, since its form alone is that of other things too.
    """

    kind: str
    cues: tuple[str, ...]
    pattern: re.Pattern[str]
    any_case: bool = False
    strict: bool = False


def _form(kind: str, cues: str, pattern: str, strict: bool = False) -> KeyForm:
    return KeyForm(kind, tuple(cues.split()), re.compile(_LEFT + pattern), strict=strict)


def _named(kind: str, cues: str, pattern: str, strict: bool = True) -> KeyForm:
    return KeyForm(kind, tuple(cues.split()), re.compile(f"(?i:{pattern})"), any_case=True, strict=strict)


FORMS: tuple[KeyForm, ...] = (
    _form("Hugging Face token", "hf_ api_org_", r"(?:hf_(?:oauth_)?|api_org_)[A-Za-z0-9]{30,128}"),
    _form("OpenAI key", "sk-proj- sk-svcacct- sk-admin- sk-None-", r"sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,250}"),
    _form("Anthropic key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,250}"),
    _form("OpenRouter key", "sk-or-", r"sk-or-(?:v\d-)?[A-Za-z0-9]{32,128}"),
    _form("key of the form sk-", "sk-", r"sk-(?:[a-z]{1,12}[0-9]{0,2}-)?[A-Za-z0-9_-]{20,250}", strict=True),
    _form("key of the form sk_", "sk_ rk_ pk_", r"(?:sk|rk)_(?:live|test|prod)_[A-Za-z0-9]{20,250}|sk_[0-9a-f]{48}"),
    _form("Groq key", "gsk_", r"gsk_[A-Za-z0-9]{40,128}"),
    _form("Cerebras key", "csk-", r"csk-[a-z0-9]{40,128}"),
    _form("Upstage key", "up_", r"up_[A-Za-z0-9]{28,64}" + _RIGHT),
    _form("xAI key", "xai-", r"xai-[A-Za-z0-9]{60,128}"),
    _form("Perplexity key", "pplx-", r"pplx-[A-Za-z0-9]{40,128}"),
    _form("NVIDIA key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{40,128}"),
    _form("Replicate token", "r8_", r"r8_[A-Za-z0-9]{36,64}"),
    _form("Fireworks key", "fw_", r"fw_[A-Za-z0-9]{20,64}" + _RIGHT, strict=True),
    _form("Jina key", "jina_", r"jina_[A-Za-z0-9_-]{40,128}"),
    _form("LangSmith key", "lsv2_ ls__", r"(?:lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}|ls__[0-9a-f]{32})"),
    _form("Langfuse key", "sk-lf-", rf"sk-lf-{_UUID}"),
    _form("Weights & Biases key", "wandb_v", r"wandb_v\d_[A-Za-z0-9_]{40,128}"),
    _form("Pinecone key", "pcsk_", r"pcsk_[A-Za-z0-9_]{40,128}"),
    _form("Tavily key", "tvly-", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{28,64}"),
    _form("DeepL key", "", rf"(?P<v>{_UUID}):(?:fx|dp)" + _RIGHT)._replace(cues=(":fx", ":dp")),
    _form("AWS access key", "AKIA ASIA ABIA ACCA", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}" + _RIGHT),
    _form("AWS key", "ABSK", r"ABSK[A-Za-z0-9+/]{90,400}={0,2}"),
    _form("AWS session token", "FwoGZXIvYXdz IQoJb3JpZ2lu", r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9+/=]{60,2000}"),
    _form("Google key", "AIza", r"AIza[0-9A-Za-z_-]{35}"),
    _form("Google secret", "GOCSPX- ya29. 1//0", r"(?:GOCSPX-[A-Za-z0-9_-]{20,64}|ya29\.[A-Za-z0-9_-]{20,512}|1//0[A-Za-z0-9_-]{40,256})"),
    _form("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255})"),
    _form("GitLab token", "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- gloas- glsoat- glffct- glwt- GR1348941", r"(?:gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct|wt)-[A-Za-z0-9_.=-]{20,300}|GR1348941[A-Za-z0-9_-]{20,64})"),
    _form("Slack token", "xoxa xoxb xoxe xoxo xoxp xoxr xoxs xoxc xoxd xapp-", r"(?:xox[abcdeoprs](?:\.xox[bp])?-[0-9A-Za-z%-]{10,300}|xapp-\d-[A-Z0-9]{5,20}-\d{5,20}-[0-9A-Za-z]{20,128})"),
    _form("npm token", "npm_", r"npm_[A-Za-z0-9]{36,64}"),
    _form("PyPI token", "pypi-", r"pypi-[A-Za-z0-9_-]{50,500}"),
    _form("crates.io token", "cio", r"cio[A-Za-z0-9]{32}" + _RIGHT, strict=True),
    _form("RubyGems key", "rubygems_", r"rubygems_[0-9a-f]{48}"),
    _form("Docker token", "dckr_", r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{24,64}"),
    _form("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", r"do[por]_v1_[0-9a-f]{64}"),
    _form("Databricks token", "dapi", r"dapi[0-9a-f]{32}(?:-\d)?" + _RIGHT),
    _form("SendGrid key", "SG.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _form("Shopify token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _form("Stripe secret", "whsec_", r"whsec_[A-Za-z0-9+/]{32,64}"),
    _form("Toss Payments key", "test_sk_ live_sk_ test_gsk_ live_gsk_", r"(?:test|live)_g?sk_[A-Za-z0-9]{20,64}"),
    _form("Notion token", "ntn_ secret_", r"(?:ntn_[A-Za-z0-9]{40,64}|secret_[A-Za-z0-9]{43})" + _RIGHT),
    _form("Linear key", "lin_api_", r"lin_api_[A-Za-z0-9]{32,64}"),
    _form("Figma token", "figd_", r"figd_[A-Za-z0-9_-]{32,64}"),
    _form("Postman key", "PMAK-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _form("Grafana token", "glsa_ glc_", r"(?:glsa_[A-Za-z0-9]{32}_[0-9a-fA-F]{8}|glc_[A-Za-z0-9+/]{32,400}={0,2})"),
    _form("Vault token", "hvs. hvb.", r"hv[sb]\.[A-Za-z0-9_-]{24,300}"),
    _form("Doppler token", "dp.", r"dp\.(?:pt|st|sa|ct|scim|audit)\.(?:[a-z0-9_-]{2,40}\.)?[A-Za-z0-9]{40,64}"),
    _form("Netlify token", "nfp_", r"nfp_[A-Za-z0-9]{36,64}"),
    _form("Supabase key", "sbp_ sb_secret_", r"(?:sbp_[0-9a-f]{40}|sb_secret_[A-Za-z0-9_-]{20,64})"),
    _form("Sentry token", "sntrys_ sntryu_", r"sntry[su]_[A-Za-z0-9+/=_-]{40,400}"),
    _form("Atlassian token", "ATATT3 ATBB ATCTT3", r"(?:AT[AC]TT3[A-Za-z0-9_=-]{60,300}|ATBB[A-Za-z0-9]{32})"),
    _form("PlanetScale token", "pscale_", r"pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_.=-]{32,64}"),
    _form("Mailgun key", "key-", r"key-[0-9a-f]{32}" + _RIGHT),
    _form("Mailchimp key", "-us", r"(?P<v>[0-9a-f]{32})-us\d{1,2}" + _RIGHT),
    _form("Alibaba Cloud key", "LTAI", r"LTAI[A-Za-z0-9]{12,24}" + _RIGHT, strict=True),
    _form("Naver Cloud key", "ncp_iam_", r"ncp_iam_[A-Za-z0-9]{16,64}"),
    _form("Clova key", "nv-", r"nv-[A-Za-z0-9]{32,64}" + _RIGHT),
    _form("Kakao key", "KakaoAK", r"KakaoAK[ \t:\"']{1,4}(?P<v>[0-9a-fA-F]{32})" + _RIGHT),
    _form("Telegram token", ":AA", r"(?P<v>\d{8,10}:AA[A-Za-z0-9_-]{32,35})"),
    _form("Azure key", "AccountKey= SharedAccessKey=", r"(?:AccountKey|SharedAccessKey)=(?P<v>[A-Za-z0-9+/]{40,100}={0,2})"),
    _form("Azure key", "JQQJ99", r"(?P<v>[A-Za-z0-9]{40,64}JQQJ99[A-Za-z0-9]{20,40})"),
    _form("Azure secret", "Q~", r"(?P<v>[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34})"),
    _form("Azure signature", "sig=", r"sig=(?P<v>[A-Za-z0-9%+/]{40,90}(?:%3D|=))"),
    _form("JSON web token", "eyJ", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{4,8000}\.[A-Za-z0-9_-]{16,1400}"),
    _form("age key", "AGE-SECRET-KEY-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _form("Slack webhook", "hooks.slack", r"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/(?P<v>[A-Za-z0-9/_-]{20,120})"),
    _form("Discord webhook", "discord.com/api discordapp.com/api", r"discord(?:app)?\.com/api/webhooks/\d{15,21}/(?P<v>[A-Za-z0-9_-]{50,100})"),
    _form("private key", "-----BEGIN ---- PuTTY-User-Key-File- Private-Lines:", r"(?:-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----|PuTTY-User-Key-File-\d:|Private-Lines:)"),
    _named("private key", "kty", r"kty[\\\"']{1,4}\s{0,4}:(?P<kty>)"),
    _named("WireGuard key", "privatekey", r"PrivateKey\s{0,4}=\s{0,4}(?P<v>[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)"),
    _named("DeepL key", "deepl", rf"deepl{_GAP}(?:key|auth|token|secret|client|translator|키|[:=(])[^\n:=]{{0,12}}{_ASSIGNED}(?P<v>(?<![0-9a-f-]){_UUID}(?![0-9a-f-]))", strict=False),
    _named("AWS secret key", "aws secretaccesskey secret_access secretkey secret_key", rf"(?:aws{_GAP}secret|secret[ _-]?(?:access)?[ _-]?key)[^\n:=]{{0,16}}{_ASSIGNED}(?P<v>[A-Za-z0-9+/]{{40}})(?![A-Za-z0-9+/=])"),
    _named("Azure key", "azure ocp-apim api-key", rf"(?:azure{_GAP}|ocp-apim-subscription-|api-)(?:key|secret|token){_ASSIGNED}(?P<v>[0-9a-f]{{32}}|[A-Za-z0-9]{{52}}|[A-Za-z0-9]{{84}}){_RIGHT}"),
    _named(
        "Naver key",
        "client-secret client_secret",
        rf"client[_-]secret{_ASSIGNED}(?P<v>[A-Za-z0-9_]{{10}}){_RIGHT}",
        strict=False,
    ),
    _named("Naver key", "naver ncp ncloud clova 네이버 클로바", rf"(?:x-)?(?:naver|ncp|ncloud|clova|네이버|클로바){_GAP}(?:key|secret|token|id|키|시크릿|토큰){_ASSIGNED}(?P<v>[A-Za-z0-9+/=_-]{{10,200}})"),
    _named("Clova key", "clovastudio clovaspeech x-ocr-secret apigw-api-key", rf"(?:clovastudio-api-key|clovaspeech-api-key|x-ocr-secret|apigw-api-key(?:-id)?){_ASSIGNED}(?P<v>[A-Za-z0-9+/=_-]{{10,200}})"),
    _named("Kakao key", "kakao 카카오", rf"(?:kakao|카카오){_GAP}(?:key|token|secret|키|토큰){_ASSIGNED}(?P<v>[0-9a-f]{{32}}|[A-Za-z0-9_-]{{32,64}}){_RIGHT}"),
    _named("Weights & Biases key", "wandb", rf"wandb{_GAP}(?:key|token|login){_ASSIGNED}(?P<v>[0-9a-f]{{40}}){_RIGHT}"),
    _named("npm token", "_authtoken", rf"_authToken{_ASSIGNED}(?P<v>{_UUID}|[A-Za-z0-9_-]{{20,100}})"),
    _named("key by its name", "key token secret 키는 토큰은", rf"(?:api|access|auth|secret|private|client|service|admin|app|account|subscription|master|signing|encryption|refresh|bearer|bot)[ _-]?(?:key|token|secret|키|토큰)(?:[ _-]?(?:key|value))?{_ASSIGNED}(?P<v>[A-Za-z0-9+/=_.~-]{{20,400}})"),
    _named("key by its name", "authorization", rf"authorization{_ASSIGNED}(?:(?:Bearer|Basic|Token|DeepL-Auth-Key|KakaoAK)\s{{1,2}})(?P<v>[A-Za-z0-9+/=_.~:-]{{20,400}})"),
)  # fmt: skip
BEFORE_CUE = {":fx": 36, ":dp": 36, "-us": 32, ":AA": 10, "JQQJ99": 64, "Q~": 4}
"""Characters of a key that stand before its cue, where its cue is not its beginning."""
NAME_BEFORE = 16
"""Characters of a name that may stand before its last word, as in `api_key`."""

EXAMPLES = frozenset(
    {
        "AKIAIOSFODNN7EXAMPLE",
        "AKIAI44QH8DHBEXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ."
        "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
        "sk_test_BQokikJOvBiI2HlWgH4olfQ2",
    }
)
"""Keys that documentation shows, word for word (AWS, jwt.io, the Azure emulator, Stripe); they open nothing."""

_FILLER = re.compile(
    r"(.)\1{3,}|your|apikey|api|key|here|token|secret|example|sample|dummy|fake|test|demo|placeholder|insert|replace|change|"
    r"redacted|hidden|masked|enter|goes|this|with|real|not|none|null|todo|password|value|user|name|abcdef|qwerty|foobar|"
    r"deadbeef|cafebabe|changeme|openai|anthropic|huggingface|github|google|azure|naver|kakao|amazon"
)
_SHORTEST_SECRET = 16
_LOWEST_ENTROPY = 2.7
"""Bits a character that a drawn key surely has; 32 hexadecimal digits have 3.2 to 3.9."""
_KEY_TEXT = re.compile(r"[A-Za-z0-9+/=_-]{40,128}")
_JWK_SECRET = re.compile(r"""[\\"']{1,4}d[\\"']{1,4}\s{0,4}:\s{0,4}[\\"']{1,4}([A-Za-z0-9_-]{40,2000})""")


def quick_pattern() -> str:
    """One regular expression for RE2 that is found in every text that holds a key, and in few others.

    RE2 reads in linear time, and looks neither behind nor ahead: boundaries are left out, and so are upper bounds.
    """
    return "|".join(sorted({_for_re2(form.pattern.pattern) for form in FORMS}))


def _for_re2(pattern: str) -> str:
    """A form without boundaries, groups' names and large counts: wider, and small enough for RE2's automaton."""
    pattern = re.sub(r"\(\?<?[!=](?:[^()\[\]]|\[[^\]]*\])*\)", "", pattern)
    pattern = re.sub(r"\(\?P<\w+>", "(?:", pattern).replace("(?:||)", "")

    def loose(count: re.Match[str]) -> str:
        least, most = int(count[1]), int(count[2] or count[1])
        return f"{{{min(least, 8)},}}" if most > 8 else count[0]

    return re.sub(r"\{(\d+)(?:,(\d+))?\}\??", loose, pattern)


def find_keys(text: str) -> Iterator[str]:
    """The kinds of key in a text, each as often as it stands there, in linear time."""
    for pattern, forms_of, lower in ((_EXACT_CUES, _EXACT_FORMS, False), (_WORD_CUES, _WORD_FORMS, True)):
        done = 0
        for cue in pattern.finditer(text):
            if cue.start() < done:
                continue
            name = cue.group().lower() if lower else cue.group()
            for form in forms_of[name]:
                end = _end_of_key(form, text, cue.start(), name)
                if end:
                    yield form.kind
                    done = end
                    break


def _end_of_key(form: KeyForm, text: str, position: int, cue: str) -> int:
    """Where a key of this form that has its cue at a position ends; 0 for none."""
    back = BEFORE_CUE.get(cue, NAME_BEFORE if cue in ("key", "token", "secret", "키는", "토큰은") else 0)
    for start in range(max(0, position - back), position + 1) if back else (position,):
        found = form.pattern.match(text, start)
        if found is None or found.end() <= position:
            continue
        if form.kind == "private key":
            return _end_of_private_key(found, text)
        value = found.groupdict().get("v") or found.group()
        if value in EXAMPLES or found.group() in EXAMPLES:
            continue
        parts = [part for part in _parts(value.removeprefix(cue)) if not _is_made_up(part)]
        if any(not form.strict or looks_drawn(part) for part in parts):
            return found.end()
    return 0


def _end_of_private_key(found: re.Match[str], text: str) -> int:
    """Where the first line of a private key's own text ends; 0 if only its heading is there."""
    if found.groupdict().get("kty") is not None:
        near = text[max(0, found.start() - 3000) : found.end() + 3000]
        secret = _JWK_SECRET.search(near)
        return found.end() if secret and not is_placeholder(secret.group(1)) else 0
    if not text.startswith(("-----BEGIN", "----", "Private-Lines"), found.start()):
        return 0
    for line in _KEY_TEXT.finditer(text, found.end(), found.end() + 700):
        if not is_placeholder(line.group()):
            return line.end()
    return 0


def is_placeholder(value: str) -> bool:
    """Whether a value is made up as a stand-in, in all its parts: a key with a stand-in glued to it is a key."""
    return all(map(_is_made_up, _parts(value)))


def _parts(value: str) -> Iterator[str]:
    """The value, and what of it stands beside words of stand-ins and is long enough for a secret."""
    yield value
    end = 0
    for filler in (*_FILLER.finditer(lower := value.lower()), None):
        start = len(value) if filler is None else filler.start()
        if start - end >= _SHORTEST_SECRET and start - end < len(value) == len(lower):
            yield value[end:start]
        end = start if filler is None else filler.end()


def _is_made_up(value: str) -> bool:
    """Whether it is mostly words of stand-ins, letters in their order, or one thing repeated."""
    rest = _FILLER.sub("", value.lower())
    letters = [character for character in rest if character.isalnum()]
    if 2 * len(letters) < sum(map(str.isalnum, value)) or _entropy(value) < _LOWEST_ENTROPY:
        return True
    steps = [ord(second) - ord(first) for first, second in pairwise(value)]
    in_order = sum(step == other and abs(step) <= 1 for step, other in pairwise(steps))
    if 2 * in_order > len(steps):
        return True
    period = (value + value).find(value, 1)
    return 3 * period <= len(value)


def looks_drawn(value: str) -> bool:
    """Whether a value looks drawn by lot: capitals, small letters and digits change as often as in one; no words, no path.

    In letters and digits drawn alike, a run of one kind is 1.6 long on average; in CamelCase words over 2.5.
    """
    if re.fullmatch(_UUID, value):
        return True
    runs = re.findall(r"[A-Za-z0-9]+", value)
    if not runs or max(map(len, runs)) < 8 or len(set(value)) < 10:
        return False
    mixed = sum(len(re.findall(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])", run)) for run in runs)
    if re.fullmatch(r"[0-9a-f]+", value):
        return mixed >= 3
    alike = sum(len(re.findall(r"[a-z]+|[A-Z]+|[0-9]+", run)) for run in runs)
    return sum(map(len, runs)) <= (3.0 if any(map(str.isdigit, value)) else 1.9) * alike


def _entropy(text: str) -> float:
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())


def _by_cue(any_case: bool) -> dict[str, list[KeyForm]]:
    """The forms to compare at each cue: its own, and those of shorter cues that it begins with."""
    forms = [form for form in FORMS if form.any_case == any_case]
    cues = {cue for form in forms for cue in form.cues}
    return {
        cue: [
            form
            for other in sorted(cues, key=len, reverse=True)
            if cue.startswith(other)
            for form in forms
            if other in form.cues
        ]
        for cue in cues
    }


_EXACT_FORMS, _WORD_FORMS = _by_cue(False), _by_cue(True)
_EXACT_CUES = re.compile("|".join(map(re.escape, sorted(_EXACT_FORMS, key=len, reverse=True))))
_WORD_CUES = re.compile("|".join(map(re.escape, sorted(_WORD_FORMS, key=len, reverse=True))), re.IGNORECASE)
