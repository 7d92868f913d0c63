"""A moment of a run, and any moment there could be, to be shown."""

from __future__ import annotations

from hypothesis import strategies as st

from seqkit.training.display.progress import Sample, Snapshot

NASTY = "\x1b[2J \x1b]52;c;aGk=\x07 \x9b1A \u202eevil\u2066 [/foo] [link=x]y[/link] :smile: \r\n\u2028 \ud800 漢字 end"
MOMENT = Snapshot(
    run="numbers/run",
    model="transformer 1.2 M",
    device="cpu x4",
    precision="fp32",
    step=1480,
    steps_total=2400,
    epoch=4.1,
    epochs_total=12,
    elapsed=52,
    eta=31,
    loss=0.412,
    perplexity=1.51,
    rate=6.1e-4,
    tokens_per_second=18300,
    padding=0.07,
    gradient_norm=0.81,
    losses=tuple(5 / step for step in range(1, 200)),
    scores=(12.4, 58.0, 81.3, 93.2),
    perplexities=(9.1, 2.3, 1.4, 1.2),
    best_score=93.2,
    best_step=1400,
    saved_step=1400,
    saved_ago=11,
    samples=(Sample("the 5th of March", "der 5. März", "der 5. März"), Sample(NASTY, "b", "c")),
)
anything = st.text(st.characters(), max_size=60)
number = st.floats()
count = st.integers(0, 10**12)
curve = st.lists(number, max_size=40).map(tuple)
snapshots = st.builds(
    Snapshot,
    **dict.fromkeys(("run", "model", "device", "precision", "metric"), anything),
    **dict.fromkeys(("loss", "perplexity", "rate", "tokens_per_second", "gradient_norm", "elapsed"), number),
    **dict.fromkeys(("steps_total", "epochs_total", "best_step", "saved_step"), st.none() | count),
    **dict.fromkeys(("eta", "best_score", "saved_ago"), st.none() | number),
    **dict.fromkeys(("losses", "scores", "perplexities"), curve),
    **dict.fromkeys(("step", "skipped", "out_of_memory"), count),
    epoch=st.floats(0, 1e9),
    padding=st.floats(0, 1),
    samples=st.lists(st.builds(Sample, anything, anything, anything), max_size=3).map(tuple),
)
CONTROLS = [chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), 0xD800)]
