# Few targets, each of one line; what is more than a line is `cargo xtask`.
.PHONY: run test check images bench soak clean
run:    ; cargo xtask run
test:   ; cargo xtask test
check:  ; cargo xtask check
images: ; cargo xtask images
bench:  ; cargo xtask bench
soak:   ; cargo xtask soak
clean:  ; cargo clean
