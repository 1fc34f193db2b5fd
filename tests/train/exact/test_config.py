"""Settings that transformers would refuse only once the training runs."""

import pytest

from kollm.core.errors import RecipeError
from kollm.recipe.load import load_recipe
from kollm.train.sft import trainer_config

MIN_LR = "trainer.lr_scheduler_type=cosine_with_min_lr"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([MIN_LR], r"Recipe demo: .* refused \(One of min_lr or min_lr_rate should be set .* - change it"),
        ([MIN_LR, "trainer.lr_scheduler_kwargs={min_lr: 1e-5, floor: 2}"], "refused .*argument 'floor'"),
        (["trainer.lr_scheduler_type=warmup_stable_decay"], "refused .*num_decay_steps"),
        (["trainer.lr_scheduler_type=polynomial", "trainer.learning_rate=1e-8"], "refused .*smaller than initial lr"),
        (["trainer.optim=schedule_free_adamw"], "refused .*install schedulefree"),
        (["trainer.optim=adam"], "refused .*not a valid OptimizerNames"),
        (["trainer.optim=adamw_apex_fused"], "refused .*[Aa]pex"),
        (["trainer.tf32=true"], "refused .*tf32"),
        (
            ["trainer.activation_offloading=true", "trainer.use_cpu=true"],
            "there is no GPU to take the activations from",
        ),
    ],
)
def test_it_is_refused_before_any_weight_is_loaded(settings, message, tmp_path):
    with pytest.raises(RecipeError, match=message):
        trainer_config(load_recipe("demo", settings), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        [f"trainer.lr_scheduler_type={name}"]
        for name in ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")
    ]
    + [
        ["trainer.lr_scheduler_type=inverse_sqrt", "trainer.warmup_steps=0.1"],
        ["trainer.lr_scheduler_type=warmup_stable_decay", "trainer.lr_scheduler_kwargs={num_decay_steps: 10}"],
        ["trainer.lr_scheduler_type=warmup_stable_decay", "trainer.lr_scheduler_kwargs={num_decay_steps: 5000}"],
        [MIN_LR, "trainer.lr_scheduler_kwargs={min_lr_rate: 0.1}", "trainer.warmup_steps=2000"],
        [MIN_LR, "trainer.lr_scheduler_kwargs={min_lr: 1e-5}"],
    ],
)
def test_a_schedule_that_trains_is_taken(settings, tmp_path):
    trainer_config(load_recipe("demo", settings), tmp_path)
