"""What becomes of sequences that are too long: nothing is lost without being counted."""

import numpy as np

__all__ = ["OVERLONG_POLICIES", "fit_length"]

OVERLONG_POLICIES = ("drop", "prompt_left", "completion_right")
"""Leave the example out; cut the prompt on its left; cut the completion on its right."""


def fit_length(
    prompt: np.ndarray, completion: np.ndarray, longest: int, policy: str, bos: int | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a prompt and a completion of at most `longest` tokens together, or None where the policy has no way.

    Parameters
    ----------
    prompt, completion : ndarray
        Token ids, neither empty.
    longest : int
        Tokens that both may have together.
    policy : {"drop", "prompt_left", "completion_right"}
        What to do with longer ones. At least one token of each is kept, or the sequence is dropped.
    bos : int, optional
        Id of the BOS token, which stays at the beginning when a prompt that has it is cut.

    Returns
    -------
    tuple of ndarray or None
        The sequence, as it was if it fits. A cut completion has no EOS: its text does not end there.

    Examples
    --------
    >>> prompt, completion = np.array([0, 5, 6, 7]), np.array([8, 9])
    >>> fit_length(prompt, completion, longest=4, policy="prompt_left", bos=0)
    (array([0, 7]), array([8, 9]))
    >>> fit_length(prompt, completion, longest=4, policy="completion_right", bos=0) is None
    True
    """
    if len(prompt) + len(completion) <= longest:
        return prompt, completion
    kept = {"drop": 0, "prompt_left": longest - len(completion), "completion_right": longest - len(prompt)}[policy]
    if kept < 1:
        return None
    if policy == "completion_right":
        return prompt, completion[:kept]
    begin = 1 if prompt[0] == bos else 0
    return np.concatenate((prompt[:begin], prompt[len(prompt) - kept + begin :])), completion
