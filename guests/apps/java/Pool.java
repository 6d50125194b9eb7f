import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Pool {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> fs = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            final int n = i;
            fs.add(pool.submit(() -> LongStream.range(0, 5000 + n).sum()));
        }
        long total = 0;
        for (Future<Long> f : fs) total += f.get();
        System.out.println(total);
        AtomicLong a = new AtomicLong();
        ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
        CountDownLatch latch = new CountDownLatch(8);
        for (int t = 0; t < 8; t++)
            pool.execute(() -> {
                for (int i = 0; i < 20000; i++) {
                    a.incrementAndGet();
                    map.merge(i % 100, 1, Integer::sum);
                }
                latch.countDown();
            });
        latch.await();
        System.out.println(a.get() + " " + map.values().stream().mapToInt(x -> x).sum());
        System.out.println(IntStream.range(0, 1_000_000).parallel().filter(i -> i % 7 == 0).count());
        ScheduledExecutorService s = Executors.newScheduledThreadPool(2);
        CountDownLatch ticks = new CountDownLatch(5);
        s.scheduleAtFixedRate(ticks::countDown, 1, 2, TimeUnit.MILLISECONDS);
        System.out.println(ticks.await(120, TimeUnit.SECONDS));
        s.shutdownNow();
        SynchronousQueue<Integer> q = new SynchronousQueue<>();
        pool.submit(() -> { for (int i = 0; i < 1000; i++) q.put(i); return 0; });
        long sum = 0;
        for (int i = 0; i < 1000; i++) sum += q.take();
        System.out.println(sum);
        Thread t = new Thread(() -> { try { Thread.sleep(100000); } catch (InterruptedException e) { System.out.println("interrupted"); } });
        t.start();
        t.interrupt();
        t.join();
        for (int i = 0; i < 2000; i++) Thread.yield();
        pool.shutdown();
        System.out.println(pool.awaitTermination(120, TimeUnit.SECONDS));
    }
}
