"""Your own recordings made anew of their mel bands in one pass, faster than they last: a HiFi-GAN for your voices.

source:   your manifest, split 80/10/10 by a seeded hash where no line names its split; or a folder of recordings
data:     manifest.jsonl with {"audio": "a.wav"} a line; with "speaker" and --task.speaker speaker several voices
expected: depends on the data
time:     depends on the data; an hour of speech wants a GPU, or days
command:  suite train speech.vocode_hifigan --data manifest.jsonl
"""

from suite.data.sources.speech import AudioManifest
from suite.experiment.alternating_gradient import Alternating
from suite.experiment.goal import Range, Search
from suite.experiment.sections import Experiment, Optim, Precision, Train
from suite.experiment.sections import replace as changed
from suite.models import hifigan
from suite.nn.audio.spectral import LogMel
from suite.tasks.audio_features import AudioFeatures
from suite.tasks.speech.adversarial_vocoding import AdversarialVocoding


def experiment() -> Experiment:
    return Experiment(
        name="speech.vocode_hifigan",
        task=AdversarialVocoding(
            data=AudioManifest(path=""),
            features=AudioFeatures(front_end=LogMel(window=640, hop=200, fft=1024)),
            seconds=0.5,
        ),
        # 200 samples a frame: 5 * 8, and 5 by the inverse Fourier transform.
        model=hifigan.Config(channels=256, upsampling=(5, 8), spectral_hop=5),
        optim=Optim(learning_rate=4e-4, warmup_fraction=0.01, beta1=0.8, beta2=0.99, clip_norm=10.0),
        train=Train(epochs=200, batch_size=16, ema=0.999, eval_every=1000, best="-mel_error"),
        precision=Precision(compute="bfloat16"),
        gradient=Alternating(),
        search=Search(
            space=(
                Range(field="optim.learning_rate", low=1e-4, high=1e-3, log=True),
                Range(field="task.feature_weight", low=0.5, high=8.0, log=True),
            )
        ),
    )


def smoke() -> Experiment:
    return changed(
        experiment(),
        {
            "train.steps": 4,
            "train.log_every": 2,
            "train.eval_every": 4,
            "train.batch_size": 4,
            "task.seconds": 0.2,
            "model.channels": 16,
            "model.kernels": (3,),
            "model.dilations": (1,),
            "model.periods": (2, 5),
            "model.scales": 1,
            "model.discriminator_width": 1,
        },
    )
