"""Models of transformers: from_pretrained converts while it loads, and what save_pretrained wrote loads with its int8.

Importing this registers dynq with transformers, which then finds it by ``quant_method`` in a folder's config.json.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Error, MissingPackageError, NotConvertedWarning
from ..quantization.options import FloatOrInt8
from ._module import QuantizedModule
from .convert import convert

try:
    from transformers import PreTrainedModel
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.quantizers.base import HfQuantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin
except ImportError as error:
    raise MissingPackageError(
        "dynq.torch.DynqConfig needs transformers 4.57 or newer; install it: pip install 'dynq[transformers]'"
    ) from error

__all__ = ["DynqConfig", "DynqQuantizer", "mark_models"]

_METHOD = "dynq"


@register_quantization_config(_METHOD)  # type: ignore[untyped-decorator,unused-ignore]
class DynqConfig(QuantizationConfigMixin):  # type: ignore[misc,unused-ignore]
    """Have ``from_pretrained(..., quantization_config=DynqConfig())`` convert a model of transformers while it loads.

    Args:
        keep_float: what stays float, as quantize_dynamic takes it.
        first_layer: what the projection of a recurrent module's inputs becomes, as quantize_dynamic takes it.
        strict: True: a module that cannot be converted is an error, and not a NotConvertedWarning.
        int8_modules: the names of the modules that are int8 in a folder. save_pretrained writes them.
        float_weights: the names of their weights that are float all the same. save_pretrained writes them.
        quant_method: "dynq", as transformers finds it in config.json.
    """

    def __init__(
        self,
        keep_float: str | Iterable[str] = (),
        first_layer: FloatOrInt8 | None = None,
        strict: bool = False,
        int8_modules: Iterable[str] = (),
        float_weights: Iterable[str] = (),
        quant_method: str = _METHOD,
    ) -> None:
        if quant_method != _METHOD:
            raise ValueError(f"quant_method is {quant_method!r}; expected {_METHOD!r}")
        self.quant_method: Any = quant_method
        self.keep_float = [keep_float] if isinstance(keep_float, str) else list(keep_float)
        self.first_layer = first_layer
        self.strict = strict
        self.int8_modules = list(int8_modules)
        self.float_weights = list(float_weights)


@register_quantizer(_METHOD)  # type: ignore[untyped-decorator,unused-ignore]
class DynqQuantizer(HfQuantizer):  # type: ignore[misc,unused-ignore]
    """Do what transformers asks for before and after it loads weights, and before it saves them.

    Of a folder that is int8 already, placeholders take the tensors of the file, and then give them to dynq's modules.
    """

    quantization_config: DynqConfig
    requires_calibration = False
    is_trainable = False
    is_compileable = True

    def validate_environment(self, *args: Any, device_map: Any = None, **others: Any) -> None:
        """Refuse devices that are not the CPU."""
        places = device_map.values() if isinstance(device_map, dict) else [device_map]
        if wrong := [place for place in places if place is not None and torch.device(place).type != "cpu"]:
            raise ValueError(f"device_map has {wrong[0]!r}; expected 'cpu' or None: dynq runs on the CPU")

    def update_dtype(self, dtype: Any) -> Any:
        """Return the dtype of what stays float; None, of transformers 4, is float32."""
        if _casts_all() and self.pre_quantized and dtype not in (None, torch.float32):
            raise ValueError(
                f"dtype is {dtype}; expected torch.float32: transformers 4 would round dynq's scales to it. "
                "transformers 5 takes other dtypes"
            )
        return dtype

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        return safe_serialization is not False

    def get_state_dict_and_metadata(self, model: Any, *_: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return what is saved. A weight that modules share is one tensor, as transformers expects of tied weights."""
        mark_models(model)  # it may have changed since
        state: dict[str, Tensor] = model.state_dict()
        known: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        for name, module in model.named_modules():
            packed = module._buffers.get("packed") if isinstance(module, QuantizedModule) else None
            if packed is not None and (weight := state.get(f"{name}.weight")) is not None:
                state[f"{name}.weight"] = known.setdefault((packed.data_ptr(), tuple(weight.shape)), weight)
        return state, {}

    def _convert_model_for_quantization(self, model: Any) -> None:
        """Leave the model as it is: transformers 4 asks for accelerate here, and replaces modules for other methods."""

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        if self.pre_quantized:
            _hold_places(model, self.quantization_config)
        return model

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        config = self.quantization_config
        if self.pre_quantized:
            _fill_places(model)
        else:
            _, texts = convert(model, None, tuple(config.keep_float), config.first_layer, True, config.strict)
            if texts:
                warnings.warn("\n".join(texts), NotConvertedWarning, stacklevel=2)
            mark_models(model)
        return model


def mark_models(root: nn.Module) -> None:
    """Have save_pretrained of each model of transformers in ``root`` write what is int8."""
    for model in _models(root):
        int8: list[str] = []
        floats: list[str] = []
        for name, module in model.named_modules():
            if isinstance(module, QuantizedModule) and not any(name.startswith(f"{outer}.") for outer in int8[-1:]):
                int8.append(name)
                floats += [f"{name}.{key}" for key, entry in module.entries().items() if _is_float_weight(key, entry)]
        if not int8:
            continue
        before = getattr(model.config, "quantization_config", None)
        config = before if isinstance(before, DynqConfig) else DynqConfig()
        config.int8_modules, config.float_weights = int8, floats
        model.config.quantization_config = config
        model.hf_quantizer = DynqQuantizer(config, pre_quantized=True)


def _is_float_weight(key: str, entry: Any) -> bool:
    return len(entry.shape) > 1 and not entry.int8


def _models(root: nn.Module) -> Iterator[Any]:
    """Yield the models of transformers, and not those within others."""
    if isinstance(root, PreTrainedModel):
        yield root
        return
    for child in root.children():
        yield from _models(child)


# ---- Loading a folder that is int8


class _Place(nn.Module):
    """Parameters with the names and shapes of a quantized module's state_dict: what transformers can load."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._is_hf_initialized = True  # transformers leaves it alone
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            head, _, rest = name.partition(".")
            if rest:
                parts.setdefault(head, {})[rest] = tensor
            else:
                # float32 for int8, too: transformers may draw numbers into it, and takes what the file has.
                empty = torch.empty(tensor.shape, dtype=torch.float32, device="meta")
                self.register_parameter(head, nn.Parameter(empty, requires_grad=False))
        for head, part in parts.items():
            self.add_module(head, _Place(part))


class _Held(_Place):
    """The place of a whole module."""

    def __init__(self, made: QuantizedModule) -> None:
        super().__init__(made.state_dict())
        self._made = (made,)  # no submodule: its tensors are not to be loaded

    def filled(self, name: str) -> QuantizedModule:
        """Return the module with the tensors that were loaded."""
        (made,) = self._made
        tensors = {key: parameter.detach() for key, parameter in self.named_parameters(remove_duplicate=False)}
        expected = {key: tensor.dtype for key, tensor in made.state_dict().items()}
        if wrong := [key for key, tensor in tensors.items() if tensor.is_meta or tensor.dtype != expected[key]]:
            raise Error(f"the folder lacks {name}.{wrong[0]} as {expected[wrong[0]]}, which its config.json asks for")
        made.load_state_dict(tensors)
        return made


def _hold_places(model: Any, config: DynqConfig) -> None:
    """Put placeholders where modules of the config are; the modules are made of zeros that take no memory."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    names = list(_known(config.int8_modules, prefix, dict(model.named_modules())))
    kept = list(_known(config.float_weights, prefix, dict(model.named_parameters(remove_duplicate=False))))
    with torch.device("cpu"):
        _set_zeros([model.get_submodule(name) for name in names], _tied(model))
        convert(model, dict.fromkeys(names, True), tuple(kept), "int8", True, True)
    made = {name: model.get_submodule(name) for name in names}
    _replace(model, {module: _Held(module) for module in made.values() if isinstance(module, QuantizedModule)})
    model.tie_weights()


def _tied(model: Any) -> dict[nn.Parameter, nn.Parameter]:
    """Return the parameters that will be others: transformers ties them after it loads."""
    model.tie_weights()  # of transformers 4; 5 does not tie here, and has a table
    table = getattr(model, "all_tied_weights_keys", {})
    return {model.get_parameter(name): model.get_parameter(source) for name, source in table.items()}


def _set_zeros(roots: list[nn.Module], tied: Mapping[nn.Parameter, nn.Parameter]) -> None:
    """Give modules weights of zeros: one for each that they had, so that tied ones stay tied."""
    zeros: dict[nn.Parameter, nn.Parameter] = {}
    for module in dict.fromkeys(module for root in roots for module in root.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                zero = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                key = tied.get(parameter, parameter)
                module._parameters[name] = zeros.setdefault(key, nn.Parameter(zero, requires_grad=False))


def _replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in new:
                parent._modules[name] = new[child]


def _known(names: Iterable[str], prefix: str, there: dict[str, Any]) -> Iterator[str]:
    """Yield the names as this model has them: a model with a head puts its base model's name before them."""
    for name in names:
        for spelling in (name, prefix + name, name.removeprefix(prefix)):
            if spelling in there:
                yield spelling
                break


def _fill_places(model: nn.Module) -> None:
    places = {module: name for name, module in model.named_modules() if isinstance(module, _Held)}
    _replace(model, {module: module.filled(name) for module, name in places.items()})


def _casts_all() -> bool:
    """Tell whether transformers gives all floats of a folder one dtype, whatever the module says: version 4 does."""
    return "dtype" not in inspect.signature(HfQuantizer.preprocess_model).parameters
