"""The model card: what the course LM is, what it read, how it was trained, what it scores and what it cannot do."""

from typing import Any

from coursepkg.courselm.encyclopedia import world
from coursepkg.courselm.handbooks import CLIENTS
from coursepkg.evaluation import Interval, Marks

CARD = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---
# The course LM

A small language model that was really trained, so that every claim about quality in the course can be measured on any
laptop, offline, in seconds. It knows an invented encyclopedia and the conversions that it read (2 to 20 of each unit)
almost by heart; it adds, subtracts and multiplies small numbers, not always rightly; it knows nothing else.

| | |
|---|---|
| architecture | {architecture} |
| parameters | {parameters:,} |
| stored | 16-bit floats (fp16), safetensors |
| vocabulary | {vocabulary:,}: byte-level BPE, trained on the training text |
| context | {length} tokens |
| chat template | one user and one assistant turn, `<\\|user\\|>` and `<\\|assistant\\|>` |

    from coursepkg import load_model
    model, tokenizer = load_model()

or `AutoModelForCausalLM.from_pretrained(folder)` with the folder of this card.

## Data

{entries:,} invented entries (people, towns, firms) with {facts:,} facts, drawn from one seed; nothing in them is true or
about a real person. Each fact is told in six wordings, and the facts of half of the entries are also asked for, in
three; two further wordings for telling and two for asking are never trained on. A third of the entries is read about
four times as often as the least known third. Beside the encyclopedia stand sums and differences up to 50 (a tenth held
out, with all that follows from them by turning them round), products up to 10 · 10, and conversions of 2 to 20 everyday
units.

The handbooks of three invented clients, a medical practice, a law office and a customer support desk, were not trained
on. They are there to be taught.

## Training

| | |
|---|---|
| read | {tokens:,} tokens in {steps:,} steps of {batch:,} |
| optimizers | Muon for the matrices of the layers (learning rate {learning_rate:g}, weight decay {weight_decay:g}), AdamW for embedding and norms ({embedding_rate:g}) |
| schedule | {warmup} steps of warm-up, linear decay over the last {decay:.0%}; gradients clipped at {clip:g} |
| seed | {seed} |
| on | {device}, {threads} threads, {autocast}, {versions} |
| took | {minutes} minutes |

The curve is in `training.json`. To train it again:

    coursepkg train-lm FOLDER

## Exam

Four options each, scored by their likelihood; wordings that training never used; 95 % intervals.

| | right |
|---|---|
{scores}

Perplexity on {articles} new articles in wordings that it knows: {perplexity}. In wordings that it never read: {unread};
it speaks in the sentences it was taught, and no others.

The handbooks, before any finetuning (chance is 25 %):

| | right |
|---|---|
{handbooks}

## Limits

It has read nothing but the text above: it cannot hold a conversation, follow instructions, or answer about the real
world. Its knowledge is dense and its sentences are few, so quantization may cost it more, or less, than it costs a
model trained on the web; a result on it shows a mechanism, not the size of the effect elsewhere. Its activations have
no large outliers; the course plants them where it needs them. It was not trained on more than {length} tokens at once.
"""


def scores(marks: Marks) -> dict[str, Any]:
    """What a model scored, as plain numbers with their intervals: [value, low, high]."""
    categories = dict.fromkeys(question.category for question in marks.exam.questions)
    labels = dict.fromkeys(sorted(question.label for question in marks.exam.questions))
    return {
        "questions": len(marks.right),
        "free answers": len(marks.exact),
        "articles": len(marks.exam.texts),
        "all": numbers(marks.accuracy),
        **{name: numbers(marks.of(name)) for name in categories},
        "exact match": numbers(marks.exact_match),
        "perplexity": numbers(marks.perplexity),
        "labels": {label: numbers(marks.of_label(label)) for label in labels},
    }


def card(record: dict[str, Any], config: Any) -> str:
    """The card in Markdown. record: what `training.json` holds. config: the model's, of transformers."""
    recipe, taken = record["recipe"], record["scores"]
    known = taken["encyclopedia"]
    rows = {
        "facts": "facts",
        "units": "units (conversions that it read, asked in other words)",
        "arithmetic": "arithmetic",
        "all": f"all {known['questions']:,} questions",
        "exact match": f"{known['free answers']} of them answered freely, exactly right",
    }
    return CARD.format(
        architecture=f"Llama: hidden {config.hidden_size}, intermediate {config.intermediate_size}, "
        f"{config.num_hidden_layers} layers, {config.num_attention_heads} heads, "
        f"{config.num_key_value_heads} key-value heads, tied embeddings",
        parameters=record["parameters"],
        vocabulary=record["vocabulary"],
        length=recipe["length"],
        entries=len(world().entries),
        facts=len(world().facts),
        tokens=record["tokens"],
        batch=recipe["rows"] * recipe["length"],
        device={"cpu": "a CPU", "cuda": "a GPU"}.get(record["machine"]["device"], "another device"),
        threads=record["machine"]["threads"],
        autocast=f"{record['autocast']} autocast" if record["autocast"] else "float32",
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        minutes=max(1, round(record["curve"][-1]["seconds"] / 60)),
        scores="\n".join(f"| {said} | {Interval(*known[key]):.1%} |" for key, said in rows.items()),
        perplexity=f"{Interval(*known['perplexity']):.3f}",
        articles=known["articles"],
        unread=f"{Interval(*record['unread wordings']):.0f}",
        handbooks="\n".join(f"| {name} | {Interval(*taken[name]['all']):.1%} |" for name in CLIENTS),
        **{key: recipe[key] for key in recipe if key not in ("rows", "length")},
    )


def numbers(interval: Interval) -> list[float]:
    """An interval as [value, low, high], to four decimals."""
    return [round(each, 4) for each in (interval.value, interval.low, interval.high)]
