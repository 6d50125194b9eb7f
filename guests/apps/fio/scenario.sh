# needs: fio
# timeout: 300
# Random reads and writes through io_uring, each block verified: vectored and not, registered files and buffers, a polling
# thread; two jobs at once. libaio beside it. Numbers vary, so only errors and ends are shown.
. "$LIB"
job() {
    what=$1
    shift
    $RUN fio --name=j --size=2m --bs=4k --iodepth=16 --rw=randrw --rwmixread=40 --randseed=7 \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --thread --group_reporting --fallocate=none "$@" > out 2> err
    echo "$what: exit $?, $(grep -o 'err= *[0-9]*' out | tr -d ' ')"
    rm -f j.*
}
job plain --ioengine=io_uring
job vectored --ioengine=io_uring --nonvectored=0
job fixed --ioengine=io_uring --fixedbufs=1 --registerfiles=1
job batched --ioengine=io_uring --iodepth_batch=8 --iodepth_batch_complete_min=4
job async --ioengine=io_uring --force_async=1
job polled --ioengine=io_uring --sqthread_poll=1
job synced --ioengine=io_uring --fsync=16
job two --ioengine=io_uring --numjobs=2
job libaio --ioengine=libaio
