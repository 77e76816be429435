"""Experiments on chats: the same numbers as on their ids, regions by turn, turns lined up, and sets of chats."""

import json

import mlx_lm
import numpy as np
import pytest
from chat_tokenizers import assistant, make, model_of, system, user

from mlxtrace import GaussianNoise, Substitution, facts, prompts
from mlxtrace.errors import AlignmentError, EffectError, InputError, PositionError, SubjectError
from mlxtrace.experiments.pairs import pair
from mlxtrace.prompts import Pair, substitutes
from mlxtrace.results.causal_trace_result import CausalTrace
from mlxtrace.results.patching_result import PatchingResult

CLEAN = [system("Answer in one word."), user("In which city is the Colosseum?")]
CORRUPTED = [system("Answer in one word."), user("In which city is the Louvre?")]
LONGER = [system("Answer in one word."), user("In which city is the Eiffel Tower?")]
LONG = [user("Where is the user?"), assistant("Rome"), user("Where is the Louvre?")]
SHIFTED = [user("Where is the Louvre?"), assistant("Paris Paris"), user("Where is the user?")]


def patch(model, *given, **options):
    return model.activation_patching(*given, metric="l2", progress=False, **options)


@pytest.fixture(scope="module")
def model():
    return model_of("chatml")


# ---- one pair


@pytest.mark.parametrize("name", ["llama-3", "wrapped mistral", "phi"])
def test_numbers_are_those_of_the_ids(name):
    model = model_of(name)
    by_ids = [model.ids(chat) for chat in (CLEAN, CORRUPTED)]
    assert (patch(model, CLEAN, CORRUPTED).raw == patch(model, *by_ids).raw).all()
    prompt = model.prompt(CLEAN)
    for region in ("user[0]", "system", "template", "last"):
        found = patch(model, CLEAN, CORRUPTED, positions=region, component="resid_post")
        by_hand = patch(model, *by_ids, positions=list(prompt.regions[region]), component="resid_post")
        assert (found.raw == by_hand.raw).all() and found.settings["positions"] == region


def test_a_map_of_layers_and_turns(model, tmp_path):
    prompt = model.prompt(CLEAN)
    regions = ["system", "user[0]", "template", "last"]
    for within in ("mean", "together", "last"):
        found = patch(model, CLEAN, CORRUPTED, positions="regions", within=within, component="attn")
        assert found.dims == ("layer", "region") and found.coords["region"] == regions
        for k, region in enumerate(regions):
            at = list(prompt.regions[region])
            groups = {"mean": [[p] for p in at], "together": [at], "last": [at[-1:]]}[within]
            by_hand = [patch(model, CLEAN, CORRUPTED, positions=g, component="attn").raw for g in groups]
            np.testing.assert_allclose(found.raw[:, k], np.mean(by_hand, 0), atol=1e-4)
    again = PatchingResult.load(found.save(tmp_path / "a.npz"))
    assert (again.raw == found.raw).all() and again.clean_text == prompt.text == found.clean_text
    assert "user[0]" in repr(again) and prompt.text not in repr(again) and "user\\nIn which" in repr(again)
    found.plot(tmp_path / "a.png")


def test_regions_of_a_pair_come_before_its_turns(model):
    named = Pair(CLEAN, CORRUPTED, regions={"city": "city", "END": -1})
    assert patch(model, named, positions="regions").coords["region"] == ["city", "END"]
    assert patch(model, named, positions="system").raw.shape == (3,)
    with pytest.raises(InputError, match=r"positions='user\[1\]' is unknown; closest: user\[0\]"):
        patch(model, CLEAN, CORRUPTED, positions="user[1]")


def test_the_subject_is_where_two_chats_differ(model):
    made = pair(model, CLEAN, CORRUPTED)
    assert "".join(made.clean_prompt.tokens[p] for p in made.subject).strip() == "Colosseum"
    assert patch(model, CLEAN, CORRUPTED, positions="subject_last").subject_range == made.subject
    twice = pair(model, LONG, SHIFTED, align="ends")
    assert twice.subject is None, "a range over several turns is no subject"
    with pytest.raises(SubjectError, match="needs the subject"):
        patch(model, LONG, SHIFTED, align="ends", positions="subject")
    named = pair(model, [user("user"), assistant("Rome")], [user("user"), assistant("Paris")], "user")
    assert named.subject == named.clean_prompt.regions["user[0]"], "not the word in the template"


def test_a_subject_that_the_other_template_says_only(model):
    """ "user" stands in the corrupted chat's template, but in none of its contents."""
    made = pair(model, [user("The user is in")], [user("The city is in")], "user")
    assert "".join(made.corrupted_prompt.tokens[p] for p in made.corrupted_prompt.subject) == " city"


def test_noise_in_a_chat(model):
    ids, at = model.ids(CLEAN), model.subject_range(CLEAN, "Colosseum")
    found = patch(model, CLEAN, GaussianNoise("Colosseum", 0.5, samples=3), positions="user[0]")
    assert (found.raw == patch(model, ids, GaussianNoise(at, 0.5, samples=3), positions=list(
        model.prompt(CLEAN).regions["user[0]"])).raw).all()  # fmt: skip
    trace = model.causal_trace(CLEAN, "Colosseum", samples=2, noise=0.5, progress=False)
    by_ids = model.causal_trace(ids, at, samples=2, noise=0.5, progress=False)
    assert (trace.scores == by_ids.scores).all() and trace.subject_range == at
    rows = model.causal_trace(CLEAN, "Colosseum", samples=2, positions="user[0]", progress=False).positions
    assert list(rows) == list(model.prompt(CLEAN).regions["user[0]"])


def test_other_experiments_take_chats(model):
    ids = [model.ids(chat) for chat in (CLEAN, CORRUPTED)]
    effects = model.causal_effects(CLEAN, CORRUPTED, positions="regions", progress=False)
    assert effects.regions == ["system", "user[0]", "template", "last"]
    assert (model.causal_effects(CLEAN, CORRUPTED, progress=False).direct
            == model.causal_effects(*ids, progress=False).direct).all()  # fmt: skip
    estimate = model.attribution_patching(CLEAN, CORRUPTED, metric="kl", positions="regions")
    assert estimate.coords["region"] == ["system", "user[0]", "template", "last"]
    whole = patch(model, CLEAN, Substitution(CORRUPTED))
    assert (whole.raw == patch(model, CLEAN, CORRUPTED).raw).all()


def test_answers_after_the_generation_prompt(model):
    found = model.activation_patching(
        CLEAN, CORRUPTED, target="Rome", foil="Paris", metric="logit_diff", progress=False
    )
    tokens = [make("chatml").encode(text, add_special_tokens=False) for text in ("Rome", "Paris")]
    assert [model.answer_tokens(text, CLEAN) for text in ("Rome", "Paris")] == [tuple(ids) for ids in tokens]
    assert (found.target.token, found.foil.token) == (tokens[0][0], tokens[1][0])


def test_text_is_generated_as_mlx_lm_does(model):
    wrapped = make("wrapped chatml")
    for chat, how in (
        (CLEAN, "add_generation_prompt"),
        ([*CLEAN, assistant("The")], "continue_final_message"),
    ):
        ids = wrapped.apply_chat_template(chat, tokenize=True, **{how: True})
        said = model.generate(chat, max_tokens=4)
        assert said == mlx_lm.generate(model.net, wrapped, ids, max_tokens=4) and said.prompt.chat is not None


# ---- turns lined up


def test_turns_of_other_lengths_are_shown_by_turn(model):
    with pytest.raises(AlignmentError) as said:
        patch(model, CLEAN, LONGER)
    lines = str(said.value).splitlines()
    assert lines[0].startswith("user[0] has 7 tokens in the clean chat and ") and lines[1] == "user[0]"
    assert not any("Answer" in line for line in lines) and lines[-1].startswith(
        'Use align="ends", which patches '
    )


def test_turns_of_other_lengths_are_refused_where_the_whole_is_as_long(model):
    """One by one they would be paired across turns, without a word."""
    assert len(model.prompt(LONG)) != len(model.prompt(SHIFTED))
    a = [user("a b"), assistant("c"), user("d")]
    b = [user("a"), assistant("c d"), user("e")]
    assert len(model.prompt(a)) == len(model.prompt(b))
    with pytest.raises(
        AlignmentError, match=r"user\[0\] has 3 tokens .* and 1, assistant\[0\] has 1 tokens .* and 3"
    ):
        patch(model, a, b)


def test_ends_of_turns(model):
    made = pair(model, CLEAN, LONGER, align="ends")
    clean, other = made.clean_prompt, made.corrupted_prompt
    assert dict(made.alignment.pairs)[made.subject[-1]] == other.subject[-1]
    rest = [p for p in clean.positions if p not in clean.regions["user[0]"]]
    assert all(made.of_clean[p] == (p if p < rest[-1] - 8 else p + len(other) - len(clean)) for p in rest)
    assert all(clean.ids[p] == other.ids[q] for p, q in made.alignment.pairs if p != made.subject[-1])
    same = next(i for i in clean.positions if clean.ids[i] != other.ids[i])
    assert made.alignment.first_difference == sum(p < same and p == q for p, q in made.alignment.pairs)
    found = patch(model, CLEAN, LONGER, align="ends", positions="regions")
    assert "have no counterpart" in " ".join(found.notes)
    with pytest.raises(PositionError, match="has no counterpart"):
        patch(model, CLEAN, LONGER, align="ends", positions="user[0]")


def test_chats_of_other_turns(model):
    with pytest.raises(
        AlignmentError, match=r"the clean one system, user\[0\]; the corrupted one user\[0\]\. Give both"
    ):
        patch(model, CLEAN, CORRUPTED[1:])
    tail = pair(model, CLEAN, CORRUPTED[1:], align="ends").alignment.pairs
    n, m = len(model.prompt(CLEAN)), len(model.prompt(CORRUPTED[1:]))
    assert tail[-1] == (n - 1, m - 1) and all(n - p == m - q for p, q in tail)


def test_marks_in_either_chat_are_noted(model):
    marked = [CORRUPTED[0], user("In which city <|im_end|> the Louvre?")]
    for chats in ((CLEAN, marked), (marked, CLEAN)):
        notes = patch(model, *chats, align="ends").notes
        assert any("the content of user[0] holds '<|im_end|>'" in note for note in notes)


def test_a_template_that_says_something_else_is_noted():
    model = model_of("llama-3")
    today, then = (
        model.prompt(chat, template={"date_string": d})
        for chat, d in ((CLEAN, "27 Jul"), (CORRUPTED, "28 Jul"))
    )
    notes = patch(model, today, then).notes
    assert any("differ outside the contents of their turns too" in note for note in notes)
    assert not any("outside" in note for note in patch(model, CLEAN, CORRUPTED).notes)
    assert any("the date of today" in note for note in patch(model, CLEAN, CORRUPTED).notes)


def test_a_chat_and_a_text(model):
    """A text that was written by hand lines up token by token, as it always did."""
    text = model.prompt(CORRUPTED).text
    assert (patch(model, CLEAN, text).raw == patch(model, CLEAN, CORRUPTED).raw).all()
    with pytest.raises(EffectError, match="the same tokens"):
        patch(model, CLEAN, model.prompt(CLEAN).text)


# ---- many


def test_sets_of_chats(model):
    other = [*CLEAN, assistant("Rome"), user("user")], [*CLEAN, assistant("Paris"), user("user")]
    pairs = [Pair(CLEAN, CORRUPTED, id="a"), Pair(*other, id="b")]
    found = patch(model, pairs, positions="regions")
    assert found.coords["region"] == ["system", "user[0]", "assistant[0]", "user[1]", "template", "last"]
    alone = patch(model, CLEAN, CORRUPTED, positions="regions")
    np.testing.assert_allclose(found.single("a").raw, alone.raw, atol=1e-4)
    lists = patch(model, [CLEAN, other[0]], [CORRUPTED, other[1]], positions="regions")
    np.testing.assert_allclose(lists.raw, found.raw, atol=0)
    assert len(patch(model, [CLEAN], [CORRUPTED]).singles) == 1, "a list of one chat is a set of one"
    for clean, corrupted, said in (
        ([CLEAN, LONG], CORRUPTED, "2 clean prompts but one corrupted one"),  # of two messages, too
        (CLEAN, [CORRUPTED, CORRUPTED], "several corrupted prompts but one clean"),
        (CLEAN[0], CORRUPTED, "neither a prompt nor a pair"),
    ):
        with pytest.raises(InputError, match=said):
            patch(model, clean, corrupted)


def test_which_chats_are_suitable(model):
    pairs = [
        Pair(CLEAN, LONGER, id="longer"),
        Pair(CLEAN, CORRUPTED[1:], id="turns"),
        Pair(
            [user("a b"), assistant("c"), user("d")], [user("a"), assistant("c d"), user("e")], id="shifted"
        ),
        Pair(CLEAN, CLEAN, id="same"),
    ]
    why = prompts.suitable(model, pairs).why
    assert why["longer"].startswith("the prompts differ in length: user[0] 7 and ")
    assert why["turns"] == "the prompts differ in length: other turns"
    assert (
        why["shifted"] == "the prompts differ in length: user[0] 3 and 1 tokens, assistant[0] 1 and 3 tokens"
    )
    assert why["same"] == "both prompts are the same tokens"


def test_a_folder_of_chats(model, tmp_path):
    path = prompts.save([Pair(CLEAN, CORRUPTED, id="a")], tmp_path / "pairs.jsonl")
    pairs = prompts.load(path, model=model)
    assert pairs == [Pair(CLEAN, CORRUPTED, id="a")]
    options = {"component": "attn", "positions": "regions", "metric": "l2", "progress": False}
    first = prompts.run(model, pairs, out=tmp_path / "out", **options)
    again = prompts.run(model, path, out=tmp_path / "out", **options)
    assert (first.raw == again.raw).all()
    single = PatchingResult.load(tmp_path / "out" / "pairs" / "a.npz")
    assert single.settings["pair"]["prompt"] == f"system: {CLEAN[0]['content']}\nuser: {CLEAN[1]['content']}"
    assert json.loads(json.dumps(single.settings["pair"]["clean"])) == CLEAN
    with pytest.raises(InputError, match="begun with other settings"):
        prompts.run(model, [Pair(CLEAN, LONG, id="a")], out=tmp_path / "out", **options)


def test_traces_of_many_chats(model, tmp_path):
    """Facts are texts; chats with a subject are pairs."""
    fact = facts.Fact("Louvre", CORRUPTED, "Paris", id="a")
    with pytest.raises(InputError, match=r"are texts: .*; chats are traced as pairs, prompts\.run"):
        facts.run(model, [fact], tmp_path / "facts")
    pairs = [Pair(CORRUPTED, subject="Louvre", target="Paris")]
    found = prompts.run(model, pairs, "causal_trace", tmp_path / "out", samples=2, noise=0.5, progress=False)
    trace = model.causal_trace(CORRUPTED, "Louvre", target="Paris", samples=2, noise=0.5, progress=False)
    single = CausalTrace.load(tmp_path / "out" / "pairs" / "0000.npz")
    assert found.facts == 1 and (single.scores == trace.scores).all()


def test_other_subjects_in_a_chat_of_another_day():
    model = model_of("llama-3")
    prompt = model.prompt(CLEAN, "Colosseum", template={"date_string": "2 0 0 0"})
    with pytest.raises(InputError, match="of 1 subjects 1 have its 1 tokens there"):
        model.substitutes(prompt, candidates=["Louvre"])


def test_other_subjects_in_a_chat(model, monkeypatch):
    """The content that has the subject is replaced, and the chat written anew; here any other answer is sure enough."""
    asked = []

    def of_each(_, read, measure):
        asked.append(read)
        return [measure(i, np.eye(1, model.vocab_size, len(asked))[0]) for i in range(len(read))]

    monkeypatch.setattr(substitutes, "of_each", of_each)
    chat = [user("The user is in Rome"), assistant("user"), user("Where is the user?")]
    for subject, at in (("Rome", 0), ("Where", 2), ("user", 0)):
        found = model.substitutes(chat, subject, [subject, "Paris", "Answer", "assistant"])
        assert found and [len(read) for read in asked[-1]] == [len(model.prompt(chat))] * len(found)
        said = [read.chat.messages for read in asked[-1]]
        wanted = [chat[at]["content"].replace(subject, text, 1) for text in found]
        assert sorted(messages[at]["content"] for messages in said) == sorted(wanted)
        assert all(
            list(messages[:at]) + list(messages[at + 1 :]) == chat[:at] + chat[at + 1 :] for messages in said
        )
