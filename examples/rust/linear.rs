//! A linear layer in int8 from Rust: y = relu(x w^T + bias), compared with float32.
//!
//! rustc linear.rs -L <where libdynq.so is> -l dynq
//!
//! The declarations are those of dynq.h that this program uses; bindgen makes all of them from the header.

use std::ffi::{c_char, c_int, c_void, CStr};
use std::ptr;

#[repr(C)]
struct RawWeight {
    _private: [u8; 0],
}

#[repr(C)]
struct Epilogue {
    bias: *const f32,
    residual: *const f32,
    residual_stride: usize,
    activation: c_int,
    min: f32,
    max: f32,
    alpha: f32,
    beta: f32,
}

extern "C" {
    fn dynq_last_error() -> *const c_char;
    fn dynq_version() -> *const c_char;
    fn dynq_weight_pack_f32(
        n: usize,
        k: usize,
        w: *const f32,
        row_stride: usize,
        column_stride: usize,
        threads: *const c_void,
        weight: *mut *mut RawWeight,
    ) -> c_int;
    fn dynq_weight_free(weight: *mut RawWeight);
    fn dynq_linear_f32(
        weight: *const RawWeight,
        m: usize,
        x: *const f32,
        x_stride: usize,
        scheme: c_int,
        granularity: c_int,
        epilogue: *const Epilogue,
        threads: *const c_void,
        y: *mut f32,
        y_stride: usize,
    ) -> c_int;
}

const OK: c_int = 0;
const NONFINITE: c_int = 1;
const ASYMMETRIC: c_int = 0;
const PER_ROW: c_int = 1;
const RELU: c_int = 1;

fn message() -> String {
    // Valid until the next call of this thread that fails: copied at once.
    unsafe { CStr::from_ptr(dynq_last_error()) }.to_string_lossy().into_owned()
}

/// A packed weight of `n` output channels and `k` inputs.
struct Weight {
    raw: *mut RawWeight,
    n: usize,
    k: usize,
}

// It never changes, and threads may share it.
unsafe impl Send for Weight {}
unsafe impl Sync for Weight {}

impl Weight {
    fn new(w: &[f32], n: usize, k: usize) -> Result<Weight, String> {
        if n.checked_mul(k) != Some(w.len()) {
            return Err(format!("w has {} numbers; expected {} x {}", w.len(), n, k));
        }
        let mut raw = ptr::null_mut();
        match unsafe { dynq_weight_pack_f32(n, k, w.as_ptr(), k, 1, ptr::null(), &mut raw) } {
            OK => Ok(Weight { raw, n, k }),
            _ => Err(message()),
        }
    }

    /// Returns relu(x w^T + bias), and whether `x` was finite.
    fn relu(&self, x: &[f32], bias: &[f32]) -> Result<(Vec<f32>, bool), String> {
        if self.k == 0 || x.len() % self.k != 0 || bias.len() != self.n {
            return Err(format!("x has {} numbers and bias {}", x.len(), bias.len()));
        }
        let m = x.len() / self.k;
        let mut y = vec![0.0; m * self.n];
        let epilogue = Epilogue {
            bias: bias.as_ptr(),
            residual: ptr::null(),
            residual_stride: 0,
            activation: RELU,
            min: 0.0,
            max: 0.0,
            alpha: 0.0,
            beta: 0.0,
        };
        let status = unsafe {
            dynq_linear_f32(
                self.raw,
                m,
                x.as_ptr(),
                self.k,
                ASYMMETRIC,
                PER_ROW,
                &epilogue,
                ptr::null(),
                y.as_mut_ptr(),
                self.n,
            )
        };
        match status {
            OK => Ok((y, true)),
            NONFINITE => Ok((y, false)),
            _ => Err(message()),
        }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        unsafe { dynq_weight_free(self.raw) }
    }
}

fn main() -> Result<(), String> {
    let (m, n, k) = (3, 40, 100); // rows, output channels, inputs
    let x: Vec<f32> = (0..m * k).map(|i| (0.37 * i as f32).sin() + 0.5).collect();
    let w: Vec<f32> = (0..n * k).map(|i| (0.11 * i as f32).cos() / 10.0).collect();
    let bias: Vec<f32> = (0..n).map(|i| 0.01 * i as f32).collect();

    let weight = Weight::new(&w, n, k)?; // once
    let (y, finite) = weight.relu(&x, &bias)?; // for every input

    let (mut worst, mut largest) = (0.0f64, 0.0f64);
    for row in 0..m {
        for channel in 0..n {
            let products = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[channel * k + i]));
            let expected = (f64::from(bias[channel]) + products.sum::<f64>()).max(0.0);
            worst = worst.max((f64::from(y[row * n + channel]) - expected).abs());
            largest = largest.max(expected);
        }
    }
    let version = unsafe { CStr::from_ptr(dynq_version()) }.to_string_lossy();
    println!("dynq {version}: largest output {largest:.3}, largest difference from float {worst:.4}");
    let refused = Weight::new(&[f32::NAN; 4], 2, 2).is_err();
    if finite && worst < 0.02 * largest && refused {
        Ok(())
    } else {
        Err("int8 is too far from float32, or a NaN was taken".into())
    }
}
