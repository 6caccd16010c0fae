"""What the numbers of a page mean: each term with its formula, as MathML, and a sentence or two."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nrc_fast.base.markup import Markup, element, joined

__all__ = ["Term", "glossary_section", "terms_of_classes", "terms_of_features", "terms_of_layers"]


@dataclass(frozen=True)
class Term:
    """A word of the field.

    Attributes
    ----------
    name : str
    words : str
    formula : Markup or None
        An element of MathML.
    """

    name: str
    words: str
    formula: Markup | None = None


def glossary_section(terms: Iterable[Term]) -> Markup:
    """The terms as a list of definitions; each has an anchor of its own."""
    entries = []
    for term in dict.fromkeys(terms):
        formula = [] if term.formula is None else [element("div", term.formula, class_="scroll")]
        entries += [element("dt", term.name), element("dd", term.words, *formula)]
    return element("dl", joined("", *entries, ""))


# ---- formulas ----


def _of(*parts: object) -> Markup:
    return element("mrow", *(_symbol(part) for part in parts))


def _symbol(part: object) -> Markup:
    """A letter or word in italics or upright, an operator, a number; what is an element stays one."""
    if isinstance(part, Markup):
        return part
    text = str(part)
    if text.replace(".", "").isdigit():
        return element("mn", text)
    return element("mi", text) if text.isalpha() else element("mo", text)


def _sub(base: object, below: object) -> Markup:
    return element("msub", _symbol(base), _symbol(below))


def _sup(base: object, above: object) -> Markup:
    return element("msup", _symbol(base), _symbol(above))


def _over(above: object, below: object) -> Markup:
    return element("mfrac", _symbol(above), _symbol(below))


def _root(inner: object) -> Markup:
    return element("msqrt", _symbol(inner))


def _norm(*parts: object) -> Markup:
    return _of("\u2016", *parts, "\u2016")


def _mean(index: str, count: str) -> Markup:
    return _of(_over("1", count), element("munder", element("mo", "\u2211"), element("mi", index)))


def _formula(left: str, *right: object) -> Markup:
    return element("math", _of(element("mtext", left), "=", *right), display="block")


_X, _H, _Y = (_sub(letter, "i") for letter in "xhy")
_GRAM = _of("W", _sup("W", "T"))
_SHAPE = _of(_sup("\u03a3", _over("1", "2")), "\u2212", _root("\u03b3"), "I")
_BELOW_F = element("mi", "F")

NRC1 = Term(
    "NRC1",
    "How much of the features lies outside their first n principal components: 0 when collapsed. U holds the leading n "
    "eigenvectors of the covariance of the features, and x is h over its length (convention nrc24), h minus the mean "
    "over its length (id25), or h minus the mean, with the result divided by the variance (variance).",
    _formula("NRC1", _mean("i", "N"), _sup(_norm(_X, "\u2212", "U", _sup("U", "T"), _X), "2")),
)
NRC2 = Term(
    "NRC2",
    "How much of the features lies outside the row space of W, the weights of the last layer: 0 when collapsed. The "
    "rows of Q are an orthonormal basis of it.",
    _formula("NRC2", _mean("i", "N"), _sup(_norm(_X, "\u2212", _sup("Q", "T"), "Q", _X), "2")),
)
NRC3 = Term(
    "NRC3 and gamma",
    "How far the shape of W is from the one that theory predicts from the covariance \u03a3 of the targets: 0 when "
    "collapsed. It is told for the gamma for which it is smallest, for a training that of the last step, as in the "
    "paper. In the model without samples gamma is c, the product of the penalties of weights and features.",
    _formula(
        "NRC3",
        element(
            "msubsup",
            _norm(_over(_GRAM, _sub(_norm(_GRAM), _BELOW_F)), "\u2212", _over(_SHAPE, _sub(_norm(_SHAPE), _BELOW_F))),
            _BELOW_F,
            element("mn", "2"),
        ),
    ),
)
HEADS = Term(
    "random heads",
    "NRC3 of a W of independent Gaussian numbers, as large as this one and at the gamma that is best for it: what NRC3 "
    "is without any training. It depends on n, d and \u03a3 alone; 10,000 are drawn, fewer for large n. Where many of "
    "them do as well, NRC3 is no sign of training. NRC3 at gamma = 0, the gamma over the smallest eigenvalue of \u03a3 "
    "(0: the decay is weak beside the variance of the targets; 1: a direction is about to drop out of W), and the "
    "share of the Gram matrix of W outside the eigenbasis of \u03a3 (turned eigenvectors, which no gamma makes up for) "
    "tell what NRC3 consists of.",
)
BALANCE = Term(
    "balance of the head",
    "Where a training with weight decay \u03bb has come to rest, \u03bb times the Gram matrix of the rows of W is B, "
    "the mean product of residuals and predictions, whatever the network is. The distance of their shapes and the "
    "asymmetry of B are 0 there, and the ratio of their traces is the decay in the scaling of the paper. Decoupled "
    "decay (AdamW) comes to rest elsewhere.",
    _formula("B", _mean("i", "N"), _of("(", _Y, "\u2212", _sub("f", "i"), ")"), _sup(_of("(", "W", _H, ")"), "T")),
)
CLOCK = Term(
    "by weight decay alone",
    "Outside the row space of W the loss has no gradient for features that a linear layer makes: what lies there "
    "shrinks by weight decay alone. Late in a training NRC1 under convention variance then changes at a pace that the "
    "learning rate \u03b7, the momentum m and the decay \u03bb of the optimizer tell, but for small terms. With an "
    "activation in front of the last layer, or with Adam, there is no such pace.",
    _formula("slope of log NRC1", "\u2212", "2", _over(_of("\u03b7", "\u03bb"), _of("1", "\u2212", "m"))),
)
MSE = Term(
    "MSE and R2",
    "Mean squared error, summed over the outputs. R2 is its share of the variance of the targets, taken from 1.",
    _formula("MSE", _mean("i", "N"), _sup(_norm("W", _H, "+", "b", "\u2212", _Y), "2")),
)
READOUT = Term(
    "MSE of the best affine readout",
    "The least MSE that any W and b have on these features. What is far below the MSE of the network was not read out.",
)
CKA = Term(
    "linear CKA",
    "How alike the features and the targets arrange the samples, from 0 to 1. C are covariances. It is 1 for collapsed "
    "features only where all directions of the targets have the same variance.",
    _formula(
        "CKA",
        _over(
            element("msubsup", _norm(_sub("C", "hy")), _BELOW_F, element("mn", "2")),
            _of(_sub(_norm(_sub("C", "hh")), _BELOW_F), _sub(_norm(_sub("C", "yy")), _BELOW_F)),
        ),
    ),
)
RANKS = Term(
    "effective and stable rank",
    "How many directions the features use: with shares p of the variance, the exponential of their entropy; and with "
    "eigenvalues \u03bb of the covariance, the sum of their squares over the largest square.",
    element(
        "math",
        _of(
            "exp",
            "(",
            "\u2212",
            element("munder", element("mo", "\u2211"), element("mi", "k")),
            _sub("p", "k"),
            "log",
            _sub("p", "k"),
            ")",
            ",",
            element("mspace", width="1em"),
            element("munder", element("mo", "\u2211"), element("mi", "k")),
            _over(_sup(_sub("\u03bb", "k"), "2"), element("msubsup", _symbol("\u03bb"), _symbol("1"), _symbol("2"))),
        ),
        display="block",
    ),
)
VARIANCE = Term(
    "explained variance",
    "The share of the features' variance in a component, or in the first n of them together.",
)
BOUNDS = Term(
    "\u00b1 and \u2264",
    "An absolute bound of the error of the computation, rounding included. A number that is small beside its bound is "
    "only known to be no larger than what stands behind \u2264. It says nothing of other samples.",
)
LAYERS = Term(
    "Deep NRC",
    "The conditions of collapse for what each layer is given: the share of the variance outside the leading components "
    "(noise), CKA of what lies in them with the targets (signal alignment), the mean cosine between them and the "
    "leading directions of the weights (weight alignment), and the MSE of a linear readout.",
    _formula("noise", "1", "\u2212", _over(_of("tr", "(", _sup("U", "T"), "C", "U", ")"), _of("tr", "C"))),
)
LAYER_BALANCE = Term(
    "balance of layers",
    "Two linear layers with nothing between them, V below W, are balanced wherever a training with weight decay has "
    "come to rest. The norm of the difference is told over the sum of the norms of both: 0 is balanced, 1 not at all. "
    "V has its bias as one more column.",
    element("math", _of(_sup("W", "T"), "W", "=", "V", _sup("V", "T")), display="block"),
)
CLASSES = Term(
    "NC1 to NC4",
    "Collapse of classes: rows at the means of their classes (NC1), these means at the corners of a simplex (NC2), "
    "weights along the means (NC3), and decisions for the nearest mean (NC4). S are the covariances within and between "
    "the classes, K is the number of classes. All but the accuracy are 0 when collapsed.",
    _formula("NC1", _over("1", "K"), "tr", "(", _sub("S", "W"), element("msubsup", *map(_symbol, "SB+")), ")"),
)

terms_of_features = (NRC1, NRC2, NRC3, HEADS, BALANCE, CLOCK, MSE, READOUT, CKA, RANKS, VARIANCE, BOUNDS)
terms_of_layers = (LAYERS, CKA, RANKS, LAYER_BALANCE, BOUNDS)
terms_of_classes = (CLASSES, BOUNDS)
