"""The texts that the base is trained on, the tokenizer made from them, and how they are packed into windows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from knowtuning.data.records import prompt_text
from knowtuning.lab.world import World

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
ASKED_AT_MOST = 3  # facts in one question
OPEN_WINDOWS = 64  # more windows to choose from waste less padding, and hold a document back a little longer


@dataclass(frozen=True)
class Document:
    """A few facts of one entity, as prose (`prompt` is empty) or as a question and its answer."""

    entity: str
    relations: tuple[str, ...]
    prompt: str
    text: str


def documents(world: World) -> list[Document]:
    """Write the corpus: every fact of an entity is told as often as its tier says, in random order and wording.

    Each telling of an entity deals its relations, shuffled, into documents of random length. Some documents about some
    entities are a fine-grained question and its answer in the training prompt. Order of the list: random.
    """
    chance = random.Random(f"corpus {world.settings.world} {world.settings.base_seed}")
    asked = asked_entities(world)
    corpus = []
    for entity in world.entities:
        qa_share = world.settings.qa_share if entity in asked else 0.0
        for _ in range(world.exposures[entity]):
            corpus += telling(world, entity, chance, qa_share)
    chance.shuffle(corpus)
    return corpus


def asked_entities(world: World) -> set[str]:
    """The entities about which the corpus holds questions and answers."""
    chance = random.Random(f"asked {world.settings.world} {world.settings.base_seed}")
    return set(chance.sample(world.entities, round(world.settings.qa_entities * len(world.entities))))


def telling(world: World, entity: str, chance: random.Random, qa_share: float) -> list[Document]:
    """Tell every fact of one entity once, in one or more documents."""
    keys = list(world.relation)
    chance.shuffle(keys)
    corpus = []
    while keys:
        asked = chance.random() < qa_share
        size = chance.randint(1, min(len(keys), ASKED_AT_MOST) if asked else len(keys))
        part, keys = tuple(keys[:size]), keys[size:]
        if asked:
            prompt = prompt_text(world.fine_question(entity, part))
            corpus.append(Document(entity, part, prompt, world.answer(entity, part, chance)))
        else:
            corpus.append(Document(entity, part, "", prose(world, entity, part, chance)))
    return corpus


def prose(world: World, entity: str, relations: Iterable[str], chance: random.Random) -> str:
    """Tell the facts with the name first, then with the name or a pronoun."""
    sentences = []
    for key in relations:
        pronoun = bool(sentences) and chance.random() < world.settings.pronoun_share
        template = chance.randrange(len(world.relation[key].templates))
        sentences.append(world.sentence(entity, key, template=template, pronoun=pronoun))
    return " ".join(sentences)


def train_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on one telling of every entity and on all questions.

    One telling each, so that the spelling of a name does not give away how often the corpus speaks of it. Any text can
    be encoded. `<s>` is put in front, as Llama's tokenizer does; `add_special_tokens=False` leaves it out.
    """
    from transformers import PreTrainedTokenizerFast

    chance = random.Random(f"tokenizer {world.settings.world} {world.settings.base_seed}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=world.settings.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(world, chance), trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=world.settings.context,
        clean_up_tokenization_spaces=False,
    )


def _sample(world: World, chance: random.Random) -> Iterator[str]:
    for number, entity in enumerate(world.entities):
        for document in telling(world, entity, chance, qa_share=0.5):
            yield document.prompt + document.text
        yield prompt_text(world.question(entity, number)) + world.sentence(entity, world.relations[0].key)


@dataclass
class Window:
    """Documents that are read together; `room` tokens are still free."""

    room: int
    ids: list[int] = field(default_factory=list)
    entities: set[str] = field(default_factory=set)


def pack(corpus: list[Document], tokenizer: PreTrainedTokenizerFast, length: int) -> list[list[int]]:
    """Put whole documents into windows of at most `length` tokens, never two of one entity into one window.

    Two documents of one entity side by side could be copied from instead of remembered. A document starts with `<s>`
    and ends with `</s>`; one longer than a window raises `ValueError`. First fit over the windows still open.
    """
    encoded = tokenizer([document.prompt + document.text for document in corpus])["input_ids"]
    windows, waiting = [], []
    for document, ids in zip(corpus, encoded, strict=True):
        ids = [*ids, tokenizer.eos_token_id]
        if len(ids) > length:
            raise ValueError(f"a document about {document.entity} has {len(ids)} tokens; widen the window of {length}.")
        window = next((w for w in waiting if w.room >= len(ids) and document.entity not in w.entities), None)
        if window is None:
            window = Window(length)
            waiting.append(window)
        window.ids += ids
        window.entities.add(document.entity)
        window.room -= len(ids)
        if len(waiting) > OPEN_WINDOWS:
            fullest = min(waiting, key=lambda w: w.room)
            waiting.remove(fullest)
            windows.append(fullest.ids)
    return windows + [window.ids for window in waiting]
