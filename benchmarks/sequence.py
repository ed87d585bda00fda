"""SASRec with the softmax over all items, on histories as long as those of Amazon Beauty: a step of 256 of them.

22,363 users, 12,101 items, histories of 3 to 50 training events (median 4), 2 layers of 64, 2 heads, dropout 0.5; an
epoch is 88 steps. Ours: suite.training.trainer.fit on the recipe recommendation.beauty_sasrec, whose batches hold
histories of like length. Peer: a plain loop over nn.TransformerEncoder with the same sizes, fused Adam and a DataLoader
over histories padded to 50, as usual; also with the logits of real items alone, which a careful user takes. Items are
random, so that no data are needed; importing, compiling, evaluation and checkpoints are left out on both sides. Steps
are timed 22 at a time, on average.

    python -m benchmarks.sequence --rounds 3 --seconds 1
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import main, variant

USERS, ITEMS, LONGEST, BATCH = 22_363, 12_101, 50, 256
WIDTH, LAYERS, HEADS, DROPOUT = 64, 2, 2, 0.5
LENGTHS = {3: 7162, 4: 4221, 5: 2680, 6: 1811, 7: 1366, 8: 881, 9: 695, 10: 558, 12: 800, 15: 1037, 22: 800, 35: 250}
"""Training events -> users; what is left has the most."""
STEPS = 22
"""Steps that are timed at once, a quarter of an epoch."""
CASE = "SASRec, 12,101 items, b256: a step"


def histories() -> list[np.ndarray]:
    """Items, from 1 on, of each user."""
    rng = np.random.default_rng(0)
    counts = np.repeat(list(LENGTHS), list(LENGTHS.values()))
    counts = rng.permutation(np.concatenate([counts, np.full(USERS - len(counts), LONGEST)]))
    return [1 + rng.integers(0, ITEMS, count) for count in counts]


@variant(CASE, "ours")
def ours():
    import suite
    from benchmarks.loop import paced
    from suite.data.sources.item_lists import ItemLists

    path = Path(tempfile.mkdtemp()) / "lists.txt"
    rng = np.random.default_rng(1)
    with open(path, "w") as file:  # with the two events of each that are held out
        for user, items in enumerate(histories(), 1):
            held_out = 1 + rng.integers(0, ITEMS, 2)
            file.write(" ".join(map(str, [user, *items, *held_out])) + "\n")
    changes = {"task.data": ItemLists(path=str(path)), "train.log_every": STEPS, "train.baseline": False}
    return paced(suite.replace(suite.load("recommendation.beauty_sasrec"), changes), STEPS)


def theirs(real_alone: bool):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    rows = np.zeros((USERS, LONGEST + 1), np.int64)  # 0 is padding, behind the items
    beginning = ITEMS + 1
    for place, items in enumerate(histories()):
        rows[place, : len(items) + 1] = [beginning, *items]

    class SASRec(nn.Module):
        def __init__(self):
            super().__init__()
            self.items = nn.Embedding(ITEMS + 2, WIDTH, padding_idx=0)
            self.places = nn.Embedding(LONGEST, WIDTH)
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
            self.dropout = nn.Dropout(DROPOUT)
            nn.init.normal_(self.items.weight, std=0.02)
            nn.init.normal_(self.places.weight, std=0.02)
            self.register_buffer("causal", torch.triu(torch.ones(LONGEST, LONGEST, dtype=torch.bool), 1))

        def forward(self, x):
            h = self.dropout(self.items(x) + self.places.weight)
            return self.layers(h, mask=self.causal)  # padding stands last, where no real item sees it

    torch.manual_seed(0)
    model = SASRec().train()
    for layer in model.layers.layers:  # dropout where ours is: of the embeddings and of what a sublayer adds
        layer.self_attn.dropout, layer.dropout = 0.0, nn.Identity()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loader = DataLoader(TensorDataset(torch.tensor(rows)), BATCH, shuffle=True)

    def batches():
        while True:
            yield from loader

    endless = batches()

    def run():
        for _ in range(STEPS):
            (x,) = next(endless)
            optimizer.zero_grad(set_to_none=True)
            hidden, targets = model(x[:, :-1]), x[:, 1:]
            if real_alone:
                hidden, targets = hidden[targets != 0], targets[targets != 0]
            logits = hidden.flatten(0, -2) @ model.items.weight.T
            loss = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=0)
            loss.backward()
            optimizer.step()
        loss.item()

    return run, STEPS


variant(CASE, "torch, padded to 50")(lambda: theirs(False))
variant(CASE, "torch, padded to 50, logits of real items")(lambda: theirs(True))

if __name__ == "__main__":
    main()
