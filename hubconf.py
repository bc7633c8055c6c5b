"""The bundled networks by `paddle.hub.load(REPO, "glcic_faces", source="local")`, REPO being this folder."""

import context_encoder.infer
import dcgan_completion.infer
import deepfill.infer
import glcic.infer
import pix2pix.infer
import weights

dependencies = ["paddle", "numpy", "scipy", "cv2", "PIL", "simplejpeg", "tqdm", "tyro", "safetensors"]


def context_encoder_faces():
    """Context Encoder for the middle of faces; `context_encoder.infer.complete(network, image, mask)`."""
    return context_encoder.infer.load(weights.find("context_encoder_faces"))


def dcgan_faces():
    """DCGAN of faces with its discriminator; `dcgan_completion.infer.complete(network, image, mask)`."""
    return dcgan_completion.infer.load(weights.find("dcgan_faces"))


def deepfill_faces():
    """DeepFill v2 for free-form masks in faces; `deepfill.infer.complete(network, image, mask)`."""
    return deepfill.infer.load(weights.find("deepfill_faces"))


def glcic_faces():
    """GLCIC completion network for faces; `glcic.infer.complete(network, image, mask)`."""
    return glcic.infer.load(weights.find("glcic_faces"))


def pix2pix_label_to_photo():
    """pix2pix generator from label maps to street photos; `pix2pix.infer.translate(network, image)`."""
    return pix2pix.infer.load(weights.find("pix2pix_label_to_photo"))


def pix2pix_photo_to_label():
    """pix2pix generator from street photos to label maps; `pix2pix.infer.translate(network, image)`."""
    return pix2pix.infer.load(weights.find("pix2pix_photo_to_label"))
