// A linear layer in int8 from Go: y = relu(x w^T + bias), compared with float32.
//
// go build linear.go, where pkg-config finds dynq; or with CGO_CFLAGS and CGO_LDFLAGS.
package main

/*
#cgo pkg-config: dynq
#include <dynq/dynq.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"math"
	"os"
	"runtime"
)

// Weight is a packed weight of n output channels and k inputs. Goroutines may share it.
type Weight struct {
	raw  *C.dynq_weight
	n, k int
}

// dynq_last_error is of the thread that called: the goroutine stays on it from the call to the message.
func onOneThread(call func() C.dynq_status) (C.dynq_status, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	status := call()
	if status != C.DYNQ_OK {
		return status, fmt.Errorf("dynq: %s", C.GoString(C.dynq_last_error()))
	}
	return status, nil
}

// NewWeight quantizes and packs w (n, k), row-major. Close frees it.
func NewWeight(w []float32, n, k int) (*Weight, error) {
	if n <= 0 || k <= 0 || len(w) != n*k {
		return nil, fmt.Errorf("w has %d numbers; expected %d x %d", len(w), n, k)
	}
	weight := &Weight{n: n, k: k}
	_, err := onOneThread(func() C.dynq_status {
		return C.dynq_weight_pack_f32(C.size_t(n), C.size_t(k), (*C.float)(&w[0]), C.size_t(k), 1, nil, &weight.raw)
	})
	if err != nil {
		return nil, err
	}
	return weight, nil
}

// Close frees the weight.
func (weight *Weight) Close() {
	C.dynq_weight_free(weight.raw)
	weight.raw = nil
}

// Linear returns activation(x w^T) of the rows of x. A NaN or an infinity makes its row NaN, and is no error.
func (weight *Weight) Linear(x []float32, activation C.dynq_activation) ([]float32, error) {
	if len(x) == 0 || len(x)%weight.k != 0 {
		return nil, fmt.Errorf("x has %d numbers; expected rows of %d", len(x), weight.k)
	}
	rows := len(x) / weight.k
	y := make([]float32, rows*weight.n)
	epilogue := C.dynq_epilogue{activation: activation}
	status, err := onOneThread(func() C.dynq_status {
		return C.dynq_linear_f32(weight.raw, C.size_t(rows), (*C.float)(&x[0]), C.size_t(weight.k), C.DYNQ_ASYMMETRIC,
			C.DYNQ_PER_ROW, &epilogue, nil, (*C.float)(&y[0]), C.size_t(weight.n))
	})
	if err != nil && status != C.DYNQ_NONFINITE {
		return nil, err
	}
	return y, nil
}

func run() error {
	const m, n, k = 3, 40, 100 // rows, output channels, inputs
	x, w := make([]float32, m*k), make([]float32, n*k)
	for i := range x {
		x[i] = float32(math.Sin(0.37*float64(i))) + 0.5
	}
	for i := range w {
		w[i] = float32(math.Cos(0.11*float64(i))) / 10
	}

	weight, err := NewWeight(w, n, k) // once
	if err != nil {
		return err
	}
	defer weight.Close()
	y, err := weight.Linear(x, C.DYNQ_ACTIVATION_RELU) // for every input
	if err != nil {
		return err
	}

	worst, largest := 0.0, 0.0
	for row := 0; row < m; row++ {
		for channel := 0; channel < n; channel++ {
			sum := 0.0
			for i := 0; i < k; i++ {
				sum += float64(x[row*k+i]) * float64(w[channel*k+i])
			}
			expected := math.Max(sum, 0)
			worst = math.Max(worst, math.Abs(float64(y[row*n+channel])-expected))
			largest = math.Max(largest, expected)
		}
	}
	fmt.Printf("dynq %s: largest output %.3f, largest difference from float %.4f\n", C.GoString(C.dynq_version()),
		largest, worst)
	if _, err := NewWeight([]float32{float32(math.NaN())}, 1, 1); err == nil {
		return fmt.Errorf("a weight of NaN was taken")
	}
	if worst >= 0.02*largest {
		return fmt.Errorf("int8 is too far from float32")
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
