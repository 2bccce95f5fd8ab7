"""Our losses and gradients are those of llmtuner's formulas, option by option, on a tiny model.

The formulas are written here once more, plainly: padded batches, all logits, a full log-softmax, as llmtuner 0.5.3
computes them; ours run without padding, on labelled positions only, from a reference that is computed beforehand.
"""

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForCausalLM

from knowtuning.data.records import prompt_text
from knowtuning.recipe import get_recipe
from knowtuning.training.dpo import dpo_trainer
from knowtuning.training.models import load_adapter, load_base, load_tokenizer, new_adapter, save_adapter
from knowtuning.training.packed import packed
from knowtuning.training.prompts import PROMPTS, SYSTEM, encode, encode_within, fit
from knowtuning.training.sft import sft_trainer

IGNORE = -100
RECIPE = get_recipe("smoke").replace(
    quantisation="none",
    sft={"batch": 5},
    dpo={"batch": 5},
    data={"val_size": 0},
    lora={"targets": ("q_proj", "v_proj")},
)
ROWS = [
    {"question": f"What is the thing of number {'very ' * n}{n}?", "answer": f"It is {'a word and ' * (5 - n)}{n}."}
    for n in range(5)
]
PAIRS = [
    {"question": row["question"], "chosen": row["answer"], "rejected": f"It is not {n}. " * (n + 1), "aspect": "x"}
    for n, row in enumerate(ROWS)
]


@pytest.fixture
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


@pytest.fixture
def adapter(untrained_base, tmp_path):
    """A saved adapter that is not the identity."""
    model = new_adapter(load_base(untrained_base, "none"), RECIPE, seed=0)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=chance))
    return save_adapter(model, tmp_path / "start", "A test.")


def plain(base, adapter=None):
    """The model as it comes, without anything of ours."""
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(str(base)).eval()
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=True) if adapter else model


def padded(tokenizer, items):
    """llmtuner's batch: ids, mask and labels, right-padded; the prompt and the padding carry no loss."""
    encoded = [encode(tokenizer, question, answer, end=True) for question, answer in items]
    width = max(len(prompt) + len(answer) for prompt, answer in encoded)
    ids, mask, labels = (torch.full((len(encoded), width), fill) for fill in (tokenizer.pad_token_id, 0, IGNORE))
    for row, (prompt, answer) in enumerate(encoded):
        length = len(prompt) + len(answer)
        ids[row, :length] = torch.tensor(prompt + answer)
        mask[row, :length] = 1
        labels[row, len(prompt) : length] = torch.tensor(answer)
    return ids, mask, labels


def token_log_probs(model, ids, mask, labels):
    """Log-probability of each labelled token, 0 elsewhere; and which tokens are labelled. Both (B, L-1)."""
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    targets = labels[:, 1:]
    scored = targets != IGNORE
    picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    return picked * scored, scored


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same_gradients(ours, theirs):
    assert ours and ours.keys() == theirs.keys()
    assert max(gradient.abs().max() for gradient in theirs.values()) > 1e-3
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, rtol=1e-3, atol=1e-5), name


def test_sft_loss_is_the_mean_over_the_answers_tokens(untrained_base, adapter, tokenizer, tmp_path):
    theirs = plain(untrained_base, adapter)
    ids, mask, labels = padded(tokenizer, [(row["question"], row["answer"]) for row in ROWS])
    logits = theirs(input_ids=ids, attention_mask=mask).logits[:, :-1]
    expected = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    expected.backward()

    model = load_adapter(load_base(untrained_base, "none"), adapter, trainable=True)
    trainer = sft_trainer(model, tokenizer, ROWS, RECIPE, 0, tmp_path / "sft")
    with packed(model):
        loss = trainer.compute_loss(model, next(iter(trainer.get_train_dataloader())))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    same_gradients(gradients(model), gradients(theirs))


@pytest.mark.parametrize("reference", ["start", "base"])
@pytest.mark.parametrize("sft_mean", ["answers", "tokens"])
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_dpo_loss_is_that_of_the_formulas(untrained_base, adapter, tokenizer, tmp_path, reference, sft_mean, gamma):
    beta = 0.1
    theirs = plain(untrained_base, adapter)
    other = plain(untrained_base, adapter if reference == "start" else None)
    items = [(pair["question"], pair[side]) for side in ("chosen", "rejected") for pair in PAIRS]
    batch = padded(tokenizer, items)
    log_probs, scored = token_log_probs(theirs, *batch)
    with torch.no_grad():
        of_reference = token_log_probs(other, *batch)[0].sum(1)
    chosen, rejected = (log_probs.sum(1) - of_reference).chunk(2)
    preferred, tokens = log_probs[: len(PAIRS)], scored[: len(PAIRS)]
    # llmtuner takes "answers": get_batch_logps with average_log_prob, then the mean of the batch
    sft = {"answers": -(preferred.sum(1) / tokens.sum(1)).mean(), "tokens": -preferred.sum() / tokens.sum()}[sft_mean]
    expected = -logsigmoid(beta * (chosen - rejected)).mean() + gamma * sft
    expected.backward()

    model = load_adapter(load_base(untrained_base, "none"), adapter, trainable=True)
    untuned = load_base(untrained_base, "none") if reference == "base" else None
    recipe = RECIPE.replace(dpo={"sft_mean": sft_mean})
    trainer = dpo_trainer(
        model, tokenizer, PAIRS, recipe, 0, tmp_path / "dpo", gamma, beta, reference_model=untuned, watched=0
    )
    with packed(model):
        loss = trainer.compute_loss(model.train(), next(iter(trainer.get_train_dataloader())))
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    same_gradients(gradients(model), {name: g for name, g in gradients(theirs).items() if "default" in name})


def test_the_options_differ(untrained_base, adapter, tokenizer):
    """The mean over tokens is not the mean over answers here, or the tests above could not tell them apart."""
    log_probs, scored = token_log_probs(
        plain(untrained_base, adapter), *padded(tokenizer, [(r["question"], r["answer"]) for r in ROWS])
    )
    assert abs((log_probs.sum(1) / scored.sum(1)).mean() - log_probs.sum() / scored.sum()) > 1e-3


def test_reference_log_probs_are_read_again_and_only_for_the_same_model(untrained_base, adapter, tokenizer, tmp_path):
    from knowtuning.training import reference

    def trainer():
        model = load_adapter(load_base(untrained_base, "none"), adapter, trainable=True)
        return dpo_trainer(model, tokenizer, PAIRS, RECIPE, 0, tmp_path / "dpo", watched=0)

    first = trainer().train_dataset.to_list()
    [stored] = (tmp_path / "dpo" / "reference").iterdir()
    before = stored.read_bytes()
    again = trainer()
    assert again.train_dataset.to_list() == first and stored.read_bytes() == before
    with torch.no_grad():
        next(p for name, p in again.model.named_parameters() if "lora_A" in name)[0, 0] += 1e-3
    assert reference.fingerprint(again.model) != stored.stem


def test_prompts_are_to_the_letter(tokenizer):
    question, own = "Why?", prompt_text("Why?")

    def ids(*texts):
        return [token for text in texts for token in tokenizer(text, add_special_tokens=False)["input_ids"]]

    start = [tokenizer.bos_token_id]
    expected = {
        "plain": start + ids(own),
        "llmtuner-0.5.3": ids(SYSTEM, own),
        "llmtuner-0.3.3": start + ids(SYSTEM, "\n\n", own),
    }
    for name, prompt in expected.items():
        tokenizer.prompt_form = name
        assert encode(tokenizer, question, "")[0] == prompt
        assert encode(tokenizer, "", "x")[0] == start
    assert set(PROMPTS) == {*expected, "chat"}


def test_llmtuner_cuts_both_sides_by_the_same_share(tokenizer):
    tokenizer.prompt_form = "llmtuner-0.5.3"
    question, answer = "why " * 100, "because " * 300
    whole = encode(tokenizer, question, answer, end=True)
    prompt, completion, was_cut = encode_within(tokenizer, question, answer, 100)
    kept = int(100 * len(whole[1]) / sum(map(len, whole)))
    assert was_cut and (prompt, completion) == (whole[0][: 100 - kept], whole[1][:kept])
    assert completion[-1] != tokenizer.eos_token_id
    assert fit([1] * 1000, [2], 10, "both") == ([1] * 9, [2], True)


def test_the_chat_form_is_the_tokenizers_own(tokenizer, untrained_base):
    with pytest.raises(ValueError, match="no chat template"):
        load_tokenizer(untrained_base, "chat")
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m.content }}\n{% endfor %}A: "
    tokenizer.prompt_form = "chat"
    prompt, _ = encode(tokenizer, "Why?", "")
    assert prompt == tokenizer("Q: Why?\nA: ", add_special_tokens=False)["input_ids"]


def test_the_papers_recipes_hold_what_the_scripts_say():
    for name in ("paper-7b", "paper-13b"):
        recipe = get_recipe(name)
        assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (8, 16, 0.0)
        assert recipe.lora.targets == ("q_proj", "v_proj") and recipe.quantisation == "none"
        assert (recipe.sft.learning_rate, recipe.sft.batch, recipe.sft.epochs) == (1e-4, 32, 3)
        assert (recipe.dpo.learning_rate, recipe.dpo.batch, recipe.dpo.epochs) == (1e-5, 16, 1)
        assert (recipe.max_length, recipe.evaluation.max_new_tokens, recipe.data.val_size, recipe.data.test_rows) == (
            1024,
            512,
            100,
            200,
        )
        assert (recipe.prompt, recipe.dpo.sft_mean) == ("llmtuner-0.5.3", "answers")
