"""docs/terms.md and the README's terms: what they sign, what that allows, and what is refused."""

import json
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import trio

from swproxy import sign_url
from swproxy.config.assembly import Assembly
from swproxy.policy.applied_terms import AppliedTerms
from swproxy.sw1.claims import parse_target
from swproxy.sw1.refusal import Refusal
from swproxy.sw1.terms import NAMES, Terms, read_terms
from swproxy.sw1.write_terms import stated
from tests.support.pages import DOCS, block
from tests.support.shell import shell
from tests.support.stage import PATIENCE, backend, stage

CHAT: dict[str, Any] = {
    "model": "gpt-5-mini",
    "max_completion_tokens": 800,
    "stream": True,
    "messages": [{"role": "user", "content": "Who saw the API key?"}],
}


def allows(terms: Terms, **change: object) -> bool:
    try:
        AppliedTerms.of([terms]).check_body(json.dumps(CHAT | change).encode())
    except Refusal:
        return False
    return True


def test_the_readme_s_url_has_the_terms_that_are_shown() -> None:
    sign = partial(sign_url, id="chat", secret="s", host="https://edge.example.com", expiry=60)
    names: dict[str, Any] = {"sign": sign, "API": "https://api.openai.com/v1"}
    exec(block("priced.py"), names)
    claims = parse_target(names["url"].removeprefix("https://edge.example.com").encode())
    shown = "".join(block("granted").splitlines())
    assert claims.proxy_url == shown
    assert claims.terms is not None
    assert allows(claims.terms)
    changes: tuple[dict[str, Any], ...] = ({"model": "a"}, {"max_completion_tokens": 801}, {"n": 2})
    for change in changes:
        assert not allows(claims.terms, **change)


def post(url: str, body: object) -> tuple[int, bytes]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_the_recipe_lets_its_user_ask_and_no_more(tmp_path: Path) -> None:
    async with stage(tmp_path) as on, backend(on, block("granted.py")):

        async def ask(**change: object) -> tuple[int, bytes]:
            _, signed = await trio.to_thread.run_sync(post, f"{on.backend_url}/sign-granted", None)
            body = json.loads(on.put_in(json.dumps(CHAT | change)))
            return await trio.to_thread.run_sync(post, json.loads(signed)["url"], body)

        status, answer = await ask()
        assert status == 200
        assert answer.endswith(b"data: [DONE]\n\n")
        status, answer = await ask(model="gpt-5")
        problem = json.loads(answer)
        assert (status, problem["code"]) == (403, "terms-not-met")
        told = " ".join((DOCS / "terms.md").read_text().split())
        assert problem["detail"] in on.put_in(told)
        assert (await ask(max_completion_tokens=801))[0] == 403


def test_the_fragment_of_another_language_is_read() -> None:
    node = str(Path(sys.executable).with_name("node"))
    program = block("fragment.js") + "console.log(proxyUrl)"
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    terms = read_terms(done.stdout.strip())
    assert terms is not None
    assert dict(stated(terms)) == {
        "user": "42",
        "seconds": "60",
        "body.model": "gpt-5-mini,gpt-5-nano",
        "body.max_completion_tokens?": "1..800",
    }


def test_explain_tells_of_each_term(tmp_path: Path) -> None:
    assert shell(tmp_path, "swproxy init").returncode == 0
    done = shell(tmp_path, block("explain-terms"), OPENAI_API_KEY="sk")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok       term ") == 3
    assert done.stdout.splitlines()[-1] == "Accepted."


def test_the_configuration_is_one() -> None:
    assembly = Assembly(Path("swproxy.toml"), lambda _: "a secret of many characters")
    table = tomllib.loads(block("terms.toml"))
    config = assembly.config(table, list(assembly.sources(table, [])))
    assert not assembly.faults
    app = config.apps["chat"]
    assert list(app.plans) == ["trial", "paid"]
    assert app.require == ("user", "plan")


def test_every_term_is_explained() -> None:
    page = (DOCS / "terms.md").read_text()
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert {row.replace("NAME", "").replace("PATH", "") for row in rows} == set(NAMES)
