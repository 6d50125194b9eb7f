import java.util.*;

public class Garbage {
    public static void main(String[] args) {
        Map<Integer, byte[]> live = new HashMap<>();
        long allocated = 0;
        Random r = new Random(7);
        for (int i = 0; i < 60000; i++) {
            byte[] b = new byte[r.nextInt(20000)];
            allocated += b.length;
            if (i % 20 == 0) live.put(r.nextInt(500), b);
        }
        System.gc();
        System.out.println(allocated + " " + live.size());
        System.out.println(Runtime.getRuntime().totalMemory() <= 140L << 20);
    }
}
