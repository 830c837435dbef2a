"""Native code: generators write LLVM IR as text, LLVM makes machine code of it, threads run that.

A kernel is a C function `void name(ptr buffers, i64 begin, i64 end)` (`kernel.py`): it computes
some of its work items, and how they are shared out among threads does not change a bit of the
result.  Beside `X.py`, which writes a kernel, `X_spec.py` says what it computes, `X_plan.py` how
that is cut into pieces, and `X_tile.py` or `X_loops.py` has the inner parts.

    the language        ir_code ir (functions, values, loops)  integers (known or not)  target (CPU)
    formulas            vec  vecmath (their table): vecexp vectrig vecerror vecround vecphilox
                        polynomials (coefficients)
    walks over axes     loops: loop_grid loop_rows loop_columns  writer (what they share)
                        elements (expressions)  rowtile* (chains of small products)
    single ops          tables (all of them, by op):
                        matmul* conv* winograd* pooling* recurrent* indexing* scans axismap drawing
                        strided (loops over any strides)
    running             jit (IR -> machine code)  cache (on disk)  program (kernels in order)
                        runtime (threads)  pool_ir (what they run)
"""
