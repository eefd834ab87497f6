# Few targets, each of one line; what is more than a line is `cargo xtask`.
.PHONY: run test sim soak bench check images clean
run:    ; cargo xtask run
test:   ; cargo xtask test
sim:    ; cargo xtask sim
soak:   ; cargo xtask soak
bench:  ; cargo xtask bench
check:  ; cargo xtask check
images: ; cargo xtask images
clean:  ; cargo clean
