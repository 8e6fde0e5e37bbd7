import pytest
import torch

from stl_ray.csc import Dictionary
from stl_ray.images import quantize, to_uint8
from stl_ray.models import build_classifier, save_classifier, seeded
from stl_ray.space import Autoencoder, QuasiNaturalSpace, Router, encode, fit_clusters, hash_ids, thumbnails
from stl_ray.store import Layout, Storage

ATTACKS = [
    {"name": "grey", "tier": "T1b", "attack": "pgd", "options": {"steps": 3}},
    {"name": "transfer", "tier": "T2", "attack": "pgd", "options": {"steps": 3}},
    {"name": "bpda", "tier": "T3", "attack": "pgd", "options": {"steps": 3}},
    {"name": "exact", "tier": "T4", "attack": "pgd", "options": {"steps": 3}},
    {"name": "square", "tier": "T5", "attack": "square", "options": {"queries": 5}},
]


@pytest.fixture
def experiment(experiment_of, finished_run, image_tables, natural_images, tmp_path):
    """Ten images of 16 pixels and two classes; the classifier's own answers are the labels, but for id-0's."""
    images = quantize(natural_images[:10, :, :16, :16])

    def dictionary(seed: int) -> Dictionary:
        filters = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
        filters = filters - filters.mean((2, 3), keepdim=True)
        return Dictionary(filters / filters.flatten(1).norm(dim=1)[:, None, None, None], lmbda=0.1)

    def made(name: str, seed: int, **sections):
        own = experiment_of(
            attack={
                "sets": [
                    {"name": "near", "attack": "fgsm", "dissimilarity": 0.02},
                    {"name": "far", "attack": "fgsm", "dissimilarity": 0.3},
                    {"name": "finer", "attack": "fgsm", "dissimilarity": 0.02, "store": "f32"},
                ]
            },
            root=str(tmp_path / name),
            spaces=[{"name": "natural", "load": str(tmp_path / name / "given")}],
            **sections,
        )
        layout = Layout(own.root)
        autoencoder = seeded(Autoencoder, seed).eval()
        latents = encode(autoencoder, thumbnails(images, 32))
        clusters = fit_clusters(latents, clusters=2, pca_components=4, restarts=2, seed=seed)
        router = Router(autoencoder, clusters, hash_ids([f"train/{n}" for n in range(10)]), neighbours=1)
        space = QuasiNaturalSpace(dictionary(seed + 9), (dictionary(seed), dictionary(seed + 1)), 0.1, router)
        space.save(layout.uri("given"))
        Storage.open(own.root).write_json(Layout.experiment, own.model_dump(mode="json"))
        classifier = build_classifier("small_cnn", ["a", "b"], seed=seed).eval()
        save_classifier(layout.uri(layout.classifier("vanilla")), classifier, {})
        return own, classifier

    substitute, _ = made("substitute", 5)
    own, classifier = made(
        "own",
        0,
        evaluate={
            "tiers": {"budget": {"dissimilarity": 0.05}, "images": 7, "attacks": ATTACKS, "substitute": substitute.root}
        },
    )
    tables = image_tables(list(to_uint8(images)), 6, 4)
    labels = classifier.logits(images).argmax(1)
    labels[0] = 1 - labels[0]
    named = []
    for number, table in enumerate(tables):
        column = table.schema.get_field_index("label")
        values = labels[6 * number : 6 * number + table.num_rows].tolist()
        named.append(table.set_column(column, table.schema.field(column), [values]))
    finished_run(own, "ingest/test", *named)
    return own
