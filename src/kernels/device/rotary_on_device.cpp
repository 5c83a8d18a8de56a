// headlens/kernels: rotary positions on a device, after the tensors were checked.
#include "kernels/device/rotary_on_device.h"

#include <ATen/ATen.h>

#include "kernels/device/launch.h"
#include "rotary.h"

namespace headlens {

Tensor rotate_on_device(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const DeviceLaunch launch(x);
  const Tensor cosines = cos.contiguous(), sines = sin.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  RotaryParams p{};
  p.x = data_of(x);
  p.cos = data_of<const float>(cosines);
  p.sin = data_of<const float>(sines);
  p.out = data_of(out);
  p.batch = x.size(0);
  p.pos = x.size(1);
  p.heads = x.size(2);
  p.d_head = x.size(3);
  p.half = cos.size(-1);
  p.x_batch = x.stride(0);
  p.x_pos = x.stride(1);
  p.x_head = x.stride(2);
  p.table_batch = cos.size(0) > 1 ? p.pos * p.half : 0;
  p.dtype = kernel_dtype(x.scalar_type());
  launch.check("rotate_heads", launch_rotary(p, launch.stream()));
  return out;
}

}  // namespace headlens
