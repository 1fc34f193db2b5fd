"""KoLLM judge: Korean instruction following, scored on the axes of a rubric by a language model.

judge = evaluate.load("ORG/kollm_judge", "kullm2023")
judge.compute(predictions=["..."], instructions=["..."], inputs=[""])
"""

import datasets
import evaluate

import kollm.judge.make as make
import kollm.metrics.judging as judging

_DESCRIPTION = """
A language model scores answers to Korean instructions on the axes of a rubric. The configuration names the rubric:
`kullm2023` (six axes, the paper's words), `kullm2023-fixed` (the same axes, mended and fenced) or `kullm3` (five axes).
Failures are statuses with null scores, never numbers.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of str): answers to judge; None counts as a failure.
    instructions (list of str): what was asked.
    inputs (list of str, optional): contexts of the instructions; empty for none.
Returns:
    One mean an axis, None where nothing was scored; `ci95`, `bounds`, `n`, `n_scored`, `n_failed`, `parse_rate`,
    `statuses`, `rubric_sha256`, `model_requested`, `models_returned`, `cost` and `verdicts`.
Examples:
    >>> judge = evaluate.load("ORG/kollm_judge", "kullm2023")
    >>> judge.compute(predictions=["서울입니다."], instructions=["대한민국의 수도는?"], inputs=[""])["n"]
    1
"""

_CITATION = """
@misc{kullm,
  title = {한국어를 위한 지시어 튜닝 조사 연구: 거대 언어 모델 학습 및 적용},
  author = {이승준 and 이정우 and 장윤나 and 이태민 and 임희석},
  institution = {고려대학교},
  year = {2023},
}
"""

COLUMNS = ("predictions", "instructions", "inputs")
OPTIONS = (
    *("model", "mode", "samples", "base_url", "key_env", "max_cost", "price", "concurrency", "temperature"),
    *("reply_tokens", "reasoning_tokens"),
)


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class KollmJudge(evaluate.Metric):
    """The key comes from OPENAI_API_KEY, or from a client object; never from a keyword.

    Keywords of `evaluate.load`:
        rubric: a rubric file, in place of the configuration.
        engine, model, mode, samples, base_url, key_env, max_cost, price, concurrency, temperature, reply_tokens,
        reasoning_tokens: as `kollm judge` takes them.
        judge: a judge object of your own, in place of all of these.
    """

    def __init__(self, *args, rubric=None, judge=None, engine="openai", keep_in_memory=False, num_process=1, **kwargs):
        options = {key: kwargs.pop(key) for key in OPTIONS if key in kwargs}
        alone = num_process == 1  # then evaluate needs no cache file, and a failure leaves no lock behind
        super().__init__(*args, keep_in_memory=keep_in_memory or alone, num_process=num_process, **kwargs)
        name = "kullm2023" if self.config_name in (None, "default") else self.config_name
        self.judge = judge or make.make_judge(rubric or name, make.JudgeOptions(engine, keep_going=True, **options))

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({column: datasets.Value("string") for column in COLUMNS}),
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add rows; `inputs` may be left out, `references` are not used."""
        columns = {"predictions": predictions, "instructions": None, **kwargs}
        if columns.get("inputs") is None:
            columns.pop("inputs", None)
        checked = judging.check_columns(columns)
        checked.setdefault("inputs", [""] * len(checked["predictions"]))
        super().add_batch(**{column: judging.packed(values) for column, values in checked.items()})

    def add(self, *, prediction=None, reference=None, **kwargs):
        """Add one row: prediction, instructions and inputs."""
        columns = {"predictions": prediction, **kwargs}
        self.add_batch(**{column: [value] for column, value in columns.items() if column != "references"})

    def compute(self, *, predictions=None, references=None, **kwargs):
        """Judge the rows given here, or those added before.

        Args:
            predictions: answers to judge.
            references: not used.
            **kwargs: `instructions` and `inputs`.
        """
        if predictions is not None:
            self.add_batch(predictions=predictions, **kwargs)
        elif self.writer is None:
            judging.check_columns({"predictions": predictions})
        return super().compute()

    def _compute(self, predictions, instructions, inputs):
        columns = [judging.unpacked(column) for column in (predictions, instructions, inputs)]
        return judging.summary(judging.judge_columns(self.judge, *columns), self.judge)
