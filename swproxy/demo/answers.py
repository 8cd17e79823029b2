"""What the stand-in model says: a few prepared texts, chosen by the words of the prompt.

A pure function of what reached the model, so that whoever reads an answer at the far end can
compute what it ought to be.
"""

import re
from collections.abc import Collection

__all__ = ["MORE", "compose", "tokens"]

HAPPENED = """\
You pressed a button, and four parties did one small thing each.

First this page asked its own backend. The backend wrote a URL that says "one kind of request, to \
one endpoint, for one minute", signed it with a secret, and gave the page the result. That took it \
no longer than hashing a few lines of text.

Then the page called that URL. swproxy computed the same signature, saw that it held and had not \
expired, put the API key on the request and passed it on to me.

Now I am answering, one token at a time, and swproxy hands you each of them the moment it comes. \
The backend has nothing to do with it any more: it could be restarting right now, and you would \
still be reading this sentence."""

WHO = """\
Two secrets are in play, and this page holds neither.

The API key is known to swproxy, which added it to your request, and to me: I checked it before I \
said a word. Your backend does not need it. The signing secret is known to the backend, which \
signed, and to swproxy, which verified. I have never seen it. All that the page got is a signed \
URL, and a minute from now that is worth nothing.

{headers}"""

CHANGED = """\
Then it is refused. Every part of a signed URL is covered by its signature: the endpoint, the \
method, the moment it was signed, how long it lasts. Change one character and swproxy computes a \
different signature, answers 400, and I never hear of it.

You can try that: tick the box under the prompt, and this page will ask for a day instead of a \
minute before it uses the URL. It is honest about failing.

Somebody who copies the URL unchanged can use it too, for what is left of its minute and for this \
one endpoint. That is the most there is to steal here."""

STREAM = """\
Each token of mine is one small event on a connection that stays open. swproxy does not collect \
them, does not parse them, and does not wait for a buffer to fill: what I send, you see.

So the figures below mean what they say. The time to the first byte is checking the signature, \
opening a TLS connection to me unless one is idle, and my own first word. The total is all my \
talking, and I talk slowly on purpose.

Press Stop while I am speaking. The page drops its connection, swproxy drops the one to me, and I \
fall silent in the middle of a word. With a model that bills by the token, that is money."""

HAIKU = """\
A key stays at home.
A signed line crosses the wire.
Words arrive like rain.

Sixty seconds' worth
of trust, written in a link.
Then it fades to noise.

Close the tab, and look:
upstream, the river stops too.
Nothing more to pay."""

COST = """\
No more than your backend has agreed to. Behind the address that it leads to, a signed URL can \
have terms: who it is for, which model may be asked, how many tokens may come back, how long I may \
talk. They are signed along, so nobody between the backend and swproxy can change them, and they \
are made without asking anybody: no database, no call to my makers.

This page reads the terms of its URL and shows them in plain words, beside this answer. What they \
leave open is the page's: my prompt, for one.

Try to cheat: tick the other box under the prompt, and this page will ask for a larger model and \
more tokens than it was granted. swproxy reads the request before I do, names the term that is not \
met, and answers 403. I never hear of it."""

MORE = """

You asked for the large model, so there is more: I say the same at greater length, and the bill is \
ten times as high. It was worth signing a URL that says which model may be asked, was it not?"""

OTHERWISE = """\
You wrote: "{prompt}"

A real model would have much to say about that. I am only a stand-in: a few prepared texts, living \
on this machine's loopback interface, so that the demo needs neither a network nor an account. But \
I speak OpenAI's streaming format to the letter and check my caller's key, so everything between \
you and me is the real thing: the signature, the proxy, the TLS connection, and each of these \
tokens as it comes by.

Ask me what just happened, who saw the API key, what this may cost, or what becomes of a URL that \
somebody changes."""

# The first whose words occur in the prompt answers it.
TOPICS = (
    (re.compile(r"\b(haiku|poem|poetry|rhyme|verse|song)", re.IGNORECASE), HAIKU),
    (re.compile(r"\b(cost|terms?|cheat|price|expensive|budget|bill)\b", re.IGNORECASE), COST),
    (re.compile(r"\b(chang|tamper|forg|steal|stole|copie|copy|expire)", re.IGNORECASE), CHANGED),
    (re.compile(r"\b(who|key|secret|saw|seen|leak|know|header)", re.IGNORECASE), WHO),
    (
        re.compile(r"\b(stream|fast|quick|slow|latency|speed|first byte|stop)", re.IGNORECASE),
        STREAM,
    ),
    (re.compile(r"\b(happen|how|work|explain|why|swproxy)", re.IGNORECASE), HAPPENED),
)

PROMPT_CHARACTERS = 120


def compose(prompt: str, header_names: Collection[str]) -> str:
    """Answer `prompt`; `header_names` (lower-case) are those of the request that carried it."""
    for words, text in TOPICS:
        if words.search(prompt):
            return text.replace("{headers}", _headers(header_names))
    shown = " ".join(prompt.split())
    if len(shown) > PROMPT_CHARACTERS:
        shown = shown[:PROMPT_CHARACTERS] + "..."
    return OTHERWISE.replace("{prompt}", shown)


def tokens(text: str) -> list[str]:
    """Cut `text` into pieces of about a model's token; joined, they are the text again."""
    return re.findall(r"\s*\w{1,6}|\s*[^\w\s]+|\s+", text)


def _headers(names: Collection[str]) -> str:
    arrived = f"For the record, these headers came with your request: {', '.join(sorted(names))}."
    absent = [name for name in ("cookie", "origin", "referer") if name not in names]
    if not absent:
        return arrived
    return f"{arrived} Of {', '.join(absent)} I got nothing: they stayed with you."
