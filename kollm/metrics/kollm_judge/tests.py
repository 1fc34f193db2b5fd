"""Cases of the metric that need no key: nothing of them is asked, since a prediction is missing."""

test_cases = [
    {
        "predictions": [None],
        "instructions": ["대한민국의 수도는?"],
        "inputs": [""],
        "result": {"understandability": None, "n": 1, "n_scored": 0, "n_failed": 1},
    },
    {
        "predictions": [None, None],
        "instructions": ["한 문장으로 요약하세요.", "번역하세요."],
        "inputs": ["긴 글", "Good morning."],
        "result": {"overall_quality": None, "n": 2, "n_scored": 0, "n_failed": 2},
    },
]
